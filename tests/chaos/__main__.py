"""`make chaos`: a server under load is killed, frozen and cut off at random; then everything it accepted is counted.

Run as `python -m tests.chaos MINUTES [postgres]`; the second wants LUTHIER_TEST_DATABASE_URL.

Accepted is what was answered with a success. In the end every accepted file and chat is there, every job and batch
final, every line answered once, every end told once, every adapter byte for byte that of an undisturbed run, and
`luthier doctor --deep` is content. The exit status is 1 otherwise.

A full disk wants a file system of its own, and that wants root; without, the report says that it was left out. Not in
it: power loss, engines (the echo answers).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
from sqlalchemy import create_engine, text

from tests.databases import database_url
from tests.tiny import add_weights, chat_line, make_base

KEY = "sk-chaos-0123456789abcdefghijklmnopqrstuvwxyz"
CHATS = "\n".join(chat_line(f"question {i}", f"ansir {i % 3}") for i in range(10)).encode()
LINES = 20
SETTLE_S = 180
DISK = "size=3g,mode=700"
FINAL = {"succeeded", "failed", "cancelled"}
TOML = '[bases.tiny]\nsource = "file:/nowhere/m.gguf"\nsha256 = "' + "0" * 64 + '"\nlicence = "Apache-2.0"\n'


class Told(ThreadingHTTPServer):
    """Receives webhooks: which event came with which `webhook-id`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, str]] = []
        received = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.append((event["type"], event["data"]["id"], self.headers["webhook-id"]))
                self.send_response(200 if random.random() < 0.7 else 500)  # receivers have their days, too
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


class Victim:
    """The server in a process of its own, and what can befall it."""

    def __init__(self, folder: Path, database_url: str | None) -> None:
        self.folder, self.database_url = folder, database_url
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.environment = os.environ | {
            "LUTHIER_API_KEY": KEY,
            "LUTHIER_CACHE": str(folder / "cache"),
            "LUTHIER_DEFAULT_BASE": "tiny",
            "LUTHIER_ENGINE": "echo",
            "LUTHIER_WEBHOOK_PRIVATE_HOSTS": "true",
            **({"LUTHIER_DATABASE_URL": database_url} if database_url else {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.faults: Counter[str] = Counter()

    def start(self) -> None:
        command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data", self.folder / "data"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.start()

    def restart(self) -> None:
        self._signal(signal.SIGTERM)
        self.process.wait()
        self.start()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        time.sleep(random.uniform(0.5, 4))
        self._signal(signal.SIGCONT)

    def outlive_lease(self) -> None:
        """Frozen for longer than a lease, beside another server that takes over."""
        other = Victim(self.folder, self.database_url)
        self._signal(signal.SIGSTOP)
        try:
            other.start()
            time.sleep(35)
        finally:
            self._signal(signal.SIGCONT)
            time.sleep(2)
            other.process.kill()
            other.process.wait()

    def kill_trainer(self) -> bool:
        for lock in (self.folder / "data" / "runs").glob("*/lock"):
            with contextlib.suppress(ValueError, IndexError, ProcessLookupError, FileNotFoundError):
                pid = int(lock.read_text().split()[0])
                if b"luthier.train" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def disconnect(self) -> None:
        """Cut every connection to PostgreSQL."""
        engine = create_engine(self.database_url)
        with engine.begin() as connection:
            mine = "datname = current_database() AND pid != pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
        engine.dispose()

    def fill_disk(self) -> None:
        """No room for a while, and now and then a kill meanwhile."""
        ballast = self.folder / "ballast"
        with ballast.open("wb") as file:
            for _ in range(20):  # others write, and delete, at the same time
                disk = os.statvfs(self.folder)
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), disk.f_bavail * disk.f_frsize)
        time.sleep(random.uniform(1, 10))
        killed = random.random() < 0.3
        if killed:
            self._signal(signal.SIGKILL)
            self.process.wait()
        ballast.unlink()
        if killed:
            self.start()

    def suffer(self) -> None:
        """One fault, at random."""
        kinds = {self.kill: 5, self.freeze: 4, self.kill_trainer: 5, self.restart: 2, self.outlive_lease: 1}
        if self.database_url:
            kinds[self.disconnect] = 4
        if self.folder.is_mount():
            kinds[self.fill_disk] = 3
        fault = random.choices(list(kinds), list(kinds.values()))[0]
        if fault() is not False:
            self.faults[fault.__name__] += 1

    def _signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Load:
    """Clients that work on whatever happens, and remember what was accepted."""

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=20)
        self.files: dict[str, bytes] = {}
        self.chats: list[str] = []
        self.batches: list[str] = []
        self.jobs: list[str] = []
        self.refused = 0
        self.unexpected: list[str] = []  # what the server itself does not know: no fault excuses these
        self._done = threading.Event()
        works = (self.upload, self.chat, self.batch, self.job)
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def upload(self) -> None:
        content = random.randbytes(random.randrange(1, 200_000))
        self.files[self.client.files.create(file=content, purpose="user_data").id] = content
        time.sleep(0.1)

    def chat(self) -> None:
        words = [{"role": "user", "content": str(random.random())}]
        made = self.client.chat.completions.create(model="tiny", messages=words, store=True)  # type: ignore[arg-type]  # they are messages
        self.chats.append(made.id)
        time.sleep(0.1)

    def batch(self) -> None:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        lines = [
            {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body} for n in range(LINES)
        ]
        content = "\n".join(map(json.dumps, lines)).encode()
        file = self.client.files.create(file=("b.jsonl", content), purpose="batch")
        made = self.client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        self.batches.append(made.id)
        time.sleep(2)

    def job(self) -> None:
        file = self.client.files.create(file=("c.jsonl", CHATS), purpose="fine-tune")
        self.jobs.append(tune(self.client, file.id).id)
        time.sleep(15)

    def _run(self, work: Any) -> None:
        while not self._done.is_set():
            try:
                work()
            except openai.OpenAIError as error:
                self.refused += 1
                if getattr(error, "status_code", None) == 500:
                    self.unexpected.append(str(error))
                time.sleep(0.3)


def tune(client: openai.OpenAI, file_id: str) -> Any:
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 2}}}
    return client.fine_tuning.jobs.create(model="tiny", training_file=file_id, seed=3, method=method)


def adapter(folder: Path, job_id: str) -> str:
    file = folder / "data/runs" / job_id / "adapter/adapter_model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "none"


def wait_final(load: Load) -> dict[str, str]:
    """Statuses in the end; it waits for as long as one becomes final every `SETTLE_S`."""
    ends = FINAL | {"completed", "expired"}
    asks = dict.fromkeys(load.jobs, load.client.fine_tuning.jobs.retrieve)
    asks |= dict.fromkeys(load.batches, load.client.batches.retrieve)
    statuses: dict[str, str] = {}
    deadline = time.monotonic() + SETTLE_S
    while (left := [name for name in asks if statuses.get(name) not in ends]) and time.monotonic() < deadline:
        statuses |= {name: asks[name](name).status for name in left}
        if any(statuses[name] in ends for name in left):
            deadline = time.monotonic() + SETTLE_S
        time.sleep(1)
    return statuses


def losses(load: Load, victim: Victim, told: Told, reference: str) -> Counter[str]:
    """Everything accepted that is not as it should be, by kind."""
    lost: Counter[str] = Counter()
    client, statuses = load.client, wait_final(load)
    for file_id, content in load.files.items():
        with contextlib.suppress(openai.OpenAIError):
            if client.files.content(file_id).read() == content:
                continue
        lost["files"] += 1
    for chat in load.chats:
        try:
            client.chat.completions.retrieve(chat)
        except openai.OpenAIError:
            lost["stored chats"] += 1
    for batch in load.batches:
        if statuses.get(batch) != "completed":
            lost[f"batches that are {statuses.get(batch)}"] += 1
            continue
        output = client.files.content(str(client.batches.retrieve(batch).output_file_id)).text.splitlines()
        answered = Counter(json.loads(line)["custom_id"] for line in output)
        if answered != Counter(map(str, range(LINES))):
            lost["batches with lines missing or twice"] += 1
    for job in load.jobs:
        if statuses.get(job) != "succeeded":
            lost[f"jobs that are {statuses.get(job)}"] += 1
            print(job, client.fine_tuning.jobs.retrieve(job).error)
        elif adapter(victim.folder, job) != reference:
            lost["adapters unlike an undisturbed run's"] += 1
    ends = dict.fromkeys(load.jobs, "fine_tuning.job.succeeded") | dict.fromkeys(load.batches, "batch.completed")
    deadline = time.monotonic() + 120  # a receiver that refuses is asked again after 5, 20, 80 seconds
    while time.monotonic() < deadline and not set(ends) <= {owner for _, owner, _ in told.got}:
        time.sleep(1)
    for name, kind in ends.items():
        ids = {webhook for said, owner, webhook in told.got if (said, owner) == (kind, name)}
        if len(ids) != 1:
            lost["ends untold" if not ids else "ends told twice"] += 1
    return lost


@contextlib.contextmanager
def own_file_system(folder: Path) -> Iterator[Path]:
    """A folder whose disk can be filled without harm to others; the same folder where there is none to be had."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "luthier-chaos", folder], check=False).returncode == 0
    if not made:
        print("full disks are left out: to mount a file system of its own wants root")
    try:
        yield folder
    finally:
        if made:
            subprocess.run(["umount", "--lazy", folder], check=False)


def main(minutes: float, database: str | None) -> int:
    seed = random.randrange(1 << 30)
    random.seed(seed)
    told = Told()
    threading.Thread(target=told.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="luthier-chaos-") as name, own_file_system(Path(name)) as folder:
        (folder / "luthier.toml").write_text(TOML)
        add_weights(make_base(folder / "cache/bases" / ("0" * 64)))
        victim = Victim(folder, database)
        victim.start()
        load = Load(victim.url)
        load.client.webhooks.create(
            name="told",
            url=f"http://127.0.0.1:{told.server_port}",
            event_types=["fine_tuning.job.succeeded", "fine_tuning.job.failed", "batch.completed"],
        )
        undisturbed = tune(load.client, load.client.files.create(file=("c.jsonl", CHATS), purpose="fine-tune").id)
        while load.client.fine_tuning.jobs.retrieve(undisturbed.id).status not in FINAL:
            time.sleep(0.5)
        reference = adapter(folder, undisturbed.id)
        load.start()
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(random.uniform(1, 6))
            victim.suffer()
        load.stop()
        lost = losses(load, victim, told, reference)
        lost["answers of status 500"] = len(load.unexpected)
        doctor = [sys.executable, "-m", "luthier.cli.main", "doctor", "--deep", "--data", folder / "data"]
        examined = subprocess.run(
            doctor, cwd=folder, env=victim.environment, check=False, capture_output=True, text=True
        )
        lost["things that the doctor finds wrong"] += sum(
            line.startswith("WRONG") and "notices:" not in line for line in examined.stdout.splitlines()
        )
        victim.process.kill()
        victim.process.wait()
    kinds = ("files", "chats", "batches", "jobs")
    print(f"{minutes:g} minutes on {'PostgreSQL' if database else 'SQLite'}, seed {seed}")
    print(f"faults: {victim.faults.total()}: {dict(victim.faults)}; {load.refused} requests failed meanwhile")
    print("accepted:", ", ".join(f"{len(getattr(load, kind))} {kind}" for kind in kinds), f"({LINES} lines a batch)")
    print(f"losses: {lost.total()}", *(f"  {count} {what}" for what, count in lost.items() if count), sep="\n")
    if lost.total():
        print(*load.unexpected[:5], examined.stdout, sep="\n")
    return int(bool(lost.total()) or reference == "none")


if __name__ == "__main__":
    url = database_url(tempfile.gettempdir()) if "postgres" in sys.argv else None
    sys.exit(main(float(sys.argv[1]), url))
