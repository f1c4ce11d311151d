"""Be told when a job ends. `python webhook_receiver.py [PORT]` makes an endpoint for itself and prints what comes.

The server posts to private addresses, such as this machine's, when it runs with LUTHIER_WEBHOOK_PRIVATE_HOSTS=true.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from openai import InvalidWebhookSignatureError, OpenAI

client = OpenAI()


class Receiver(BaseHTTPRequestHandler):
    """Checks the signature, looks the job up, says what became of it."""

    secret = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = client.webhooks.unwrap(body, dict(self.headers), secret=self.secret)
        except InvalidWebhookSignatureError:
            self.send_error(400, "not signed by the server")
            return
        self.send_response(204)
        self.end_headers()
        job = client.fine_tuning.jobs.retrieve(event.data.id)
        print(f"{event.type}: {job.id}, model {job.fine_tuned_model}", flush=True)

    def log_message(self, *_):
        """Print events alone."""


server = HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Receiver)
url = f"http://127.0.0.1:{server.server_port}/"
endpoint = client.webhooks.create(
    name="example",
    url=url,
    event_types=["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"],
)
Receiver.secret = endpoint.signing_secret
print(f"{endpoint.id} listens on {url}", flush=True)
try:
    server.serve_forever()
finally:
    client.webhooks.delete(endpoint.id)
