"""The scripts under `examples/` run as they stand against a real server: real trainer, real engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.settings import load
from tests.conftest import KEY, serving

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"
RUN_S = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from luthier.domain.bases import Bases

    settings = load({})
    Bases(settings.cache).pull(settings.default_base)
    data = tmp_path_factory.mktemp("data")
    with serving(data, engine="llamacpp", cache=settings.cache, webhook_private_hosts=True) as running:
        yield running


def run(server, *command, cwd=EXAMPLES, **options):
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_and_its_webhook(server):
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
    receive = [sys.executable, EXAMPLES / "python" / "webhook_receiver.py"]
    with subprocess.Popen(receive, env=environment, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert "listens on" in receiver.stdout.readline()
            printed = run(server, sys.executable, "python/finetune.py")
            model = printed.split("model: ")[1].split()[0]
            assert "The job has successfully completed" in printed
            assert printed.split("answer: ")[1].strip()
            assert model in receiver.stdout.readline()
        finally:
            receiver.terminate()
    assert run(server, sys.executable, "python/chat.py", model, "misspell all words", input="Why?\n").strip()


def test_curl(server):
    printed = run(server, "bash", "curl/finetune.sh")
    assert "model: ft:" in printed
    assert '"chat.completion"' in printed


@pytest.mark.skipif(shutil.which("npm") is None, reason="no Node on this machine")
def test_typescript(server):
    folder = EXAMPLES / "typescript"
    run(server, "npm", "ci", "--no-audit", "--no-fund", cwd=folder)
    run(server, "npm", "run", "check", cwd=folder)
    printed = run(server, "npm", "start", cwd=folder)
    assert "model: ft:" in printed
    assert printed.split("answer: ")[1].strip()
