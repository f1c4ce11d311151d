import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from luthier.cli.serve import check_exposure, welcome
from luthier.core.settings import Settings
from tests.cli.test_commands import failing


@pytest.fixture
def settings(tmp_path):
    return Settings(data=tmp_path, cache=tmp_path, port=1234)


def test_the_first_run_shows_the_key_and_the_exports(settings):
    lines = "\n".join(welcome(settings, "sk-luthier-new"))
    assert "shown this once" in lines
    assert "export OPENAI_BASE_URL=http://127.0.0.1:1234/v1" in lines
    assert "export OPENAI_API_KEY=sk-luthier-new" in lines


def test_later_runs_show_no_key(settings):
    assert "export OPENAI_API_KEY=YOUR_KEY" in welcome(settings, None)[-3]
    settings.key_file.write_text("sk-luthier-new")
    lines = "\n".join(welcome(replace(settings, port=80), None))
    assert "sk-luthier-new" not in lines
    assert f"$(cat {settings.key_file})" in lines


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}: Address already in use; choose another by --port" in failing("serve", "--port", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_a_network_wants_tls_or_a_proxy(host, tmp_path):
    told = failing("serve", "--host", host, "--data", tmp_path)
    assert "in the clear" in told
    assert "--behind-proxy" in told
    check_exposure(Settings(host=host, behind_proxy=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine_wants_neither(host):
    check_exposure(Settings(host=host))


def test_a_wrong_certificate_is_one_line(tmp_path):
    pem = tmp_path / "a.pem"
    assert "together" in failing("serve", "--tls-cert", pem, "--data", tmp_path)
    assert "No such file" in failing("serve", "--tls-cert", pem, "--tls-key", pem, "--data", tmp_path)
    pem.write_text("no certificate")
    assert "PEM" in failing("serve", "--tls-cert", pem, "--tls-key", pem, "--data", tmp_path)


def test_a_first_run_serves_with_the_key_in_its_data_folder(tmp_path):
    environment = {
        "PATH": "",
        "HOME": str(tmp_path),
        "LUTHIER_ENGINE": "echo",
        # no base model can be had from here: the server says so and starts without it
        "LUTHIER_DEFAULT_BASE": "none",
    }
    toml = tmp_path / "luthier.toml"
    toml.write_text('[bases.none]\nsource = "file:/nowhere.gguf"\nsha256 = "0"\n')
    command = [sys.executable, "-m", "luthier.cli.main"]
    serve = [*command, "serve", "--port", "0", "--data", tmp_path / "data"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(serve, env=environment, cwd=tmp_path, **pipes) as server:
        try:
            told = server.stdout.readline()
            assert told, f"the server did not start: {server.stderr.read()}"
            url = told.split()[-1]
            key_file = tmp_path / "data" / "api_key"
            assert key_file.stat().st_mode & 0o777 == 0o600
            clients = environment | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key_file.read_text()}
            listed = subprocess.run([*command, "models", "list"], env=clients, cwd=tmp_path, check=False, **pipes)
        finally:
            server.terminate()
        said, remarks = server.stdout.read(), server.stderr.read()
    assert listed.returncode == 0, listed.stderr
    assert "none" in listed.stdout
    assert key_file.read_text() in said
    assert "The server starts without it." in remarks
