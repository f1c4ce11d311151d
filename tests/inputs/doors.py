"""What is sent to a real server, a process with the echo engine: forms that nobody wrote, and streams that are left."""

import contextlib
import http.client
import json
import random
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.__main__ import KEY, TOML, Victim
from tests.inputs.mutate import WORDS
from tests.inputs.readers import Target
from tests.tiny import make_base

HEADERS = {"authorization": f"Bearer {KEY}"}
TIMEOUT_S = 20
WORDS_SAID = 600
MOST_READ = 30_000  # of some 150,000 bytes


class ServerError(Exception):
    """A 5xx, or an answer that is none."""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Victim]:
    """A server on a folder of its own; in the end its log has no traceback and its doctor finds nothing wrong."""
    (folder / "luthier.toml").write_text(TOML)
    make_base(folder / "cache/bases" / ("0" * 64))
    server = Victim(folder, None)
    server.start()
    try:
        yield server
        log = (folder / "server.log").read_text(errors="replace")
        if "Traceback" in log or server.process.poll() is not None:
            raise ServerError(f"the server's log: {log[-2000:]}")
        doctor = [sys.executable, "-m", "luthier.cli.main", "doctor", "--deep", "--data", folder / "data"]
        found = subprocess.run(
            doctor, cwd=folder, env=server.environment, check=False, capture_output=True, text=True
        ).stdout
        wrong = [line for line in found.splitlines() if line.startswith("WRONG")]
        if wrong or "rows" not in found:
            raise ServerError("\n".join(["luthier doctor --deep:", *wrong]))
    finally:
        server.process.kill()
        server.process.wait()


def forms(server: Victim) -> Target:
    """Multipart bodies for files and for parts of an upload."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)

    def ask(path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
            connection.request("POST", f"/v1{path}", body, {**HEADERS, "content-type": kind})
        try:
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, ConnectionError) as error:
            connection.close()
            raise ServerError(f"no answer to {path}: {error!r}") from error

    upload = {"filename": "a.jsonl", "purpose": "vision", "bytes": 1 << 30, "mime_type": "text/plain"}
    made = json.loads(ask("/uploads", json.dumps(upload).encode(), "application/json")[1])

    def read(data: bytes) -> str:
        drawn = zlib.crc32(data)
        path = "/files" if drawn % 4 else f"/uploads/{made['id']}/parts"
        status, body = ask(path, data, f"multipart/form-data; boundary={'x' if drawn % 16 == 1 else 'xyz'}")
        if status >= 500 or (status >= 400 and "message" not in json.loads(body)["error"]):
            raise ServerError(f"{path}: {status} {body[:500]!r}")
        return "accepted" if status == 200 else "refused"

    def part(name: str, value: str, more: str = "") -> str:
        return f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'

    file = '; filename="a.jsonl"\r\nContent-Type: application/jsonl'
    whole = part("purpose", "user_data") + part("file", '{"a": 1}\n{"b": 2}', file) + "--xyz--\r\n"
    expiring = part("expires_after[anchor]", "created_at") + part("expires_after[seconds]", "3600")
    tuned = part("purpose", "fine-tune") + expiring + part("file", '{"a": 1}', file) + "--xyz--\r\n"
    data = part("data", "0123456789", '; filename="blob"') + "--xyz--\r\n"
    words = [b"--xyz", b"--xyz--", b"\r\n\r\n", b"filename*=utf-8''%00\"", b"Content-Transfer-Encoding: base64", b"=?"]
    return Target("multipart forms", 20_000, [s.encode() for s in (whole, tuned, data)], read, [*words, *WORDS])


def streams(server: Victim) -> Target:
    """Streams that are left anywhere: closed, reset, or with more sent into them."""
    said = " ".join(f"word{n}" for n in range(WORDS_SAID))
    chat = {"model": "tiny", "messages": [{"role": "user", "content": said}], "stream": True}
    bodies = {
        "/v1/chat/completions": chat,
        "/v1/completions": {"model": "tiny", "prompt": said, "stream": True},
        "/v1/responses": {"model": "tiny", "input": said, "stream": True, "store": False},
    }

    def make(draw: random.Random) -> bytes:
        how = draw.choice(("close", "reset", "half", "garbage", "to the end"))
        plan = {
            "path": draw.choice(list(bodies)),
            "bytes": draw.choice((0, 1, draw.randrange(MOST_READ))),
            "leave": how,
        }
        return json.dumps(plan).encode()

    def read(data: bytes) -> str:
        plan = json.loads(data)
        body = json.dumps(bodies[plan["path"]]).encode()
        head = f"POST {plan['path']} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as line:
            line.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            wanted = 1 << 30 if plan["leave"] == "to the end" else plan["bytes"]
            got = b""
            while len(got) < wanted and (piece := line.recv(min(65536, wanted - len(got)))):
                got += piece
            whole = b"[DONE]" in got[-200:] or b"event: response.completed" in got
            if not b"HTTP/1.1 200 ".startswith(got[:13]) or (wanted == 1 << 30 and not whole):
                raise ServerError(f"{plan}: {got[:200]!r} … {got[-200:]!r}")
            match plan["leave"]:
                case "reset":
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                case "half":
                    line.shutdown(socket.SHUT_WR)
                    line.recv(1000)
                case "garbage":
                    with contextlib.suppress(ConnectionError):
                        line.sendall(b"\x00GET / HTTP/1.1\r\n\r\n" * 20)
        return "read" if plan["leave"] == "to the end" else "left"

    return Target("streams left", 2_000, [], read, [], make)
