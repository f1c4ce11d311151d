"""`luthier data check`, without a server, on a tiny base that is in the cache."""

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app
from tests.tiny import chat_line, make_base


@pytest.fixture
def check(tmp_path, monkeypatch):
    make_base(tmp_path / "cache/bases" / ("0" * 64))
    (tmp_path / "luthier.toml").write_text(
        f'default_base = "tiny"\ncache = "{tmp_path}/cache"\n[bases.tiny]\nsource = "file:/nowhere.gguf"\n'
        f'sha256 = "{"0" * 64}"\nlicence = "MIT"\n'
    )
    monkeypatch.chdir(tmp_path)

    def run(lines, *options):
        (tmp_path / "chats.jsonl").write_text("\n".join(lines))
        return CliRunner().invoke(app, ["data", "check", "chats.jsonl", *options])

    return run


def test_a_good_file_is_counted_shown_and_priced(check):
    done = check([chat_line(f"question {n}", "x" * n) for n in range(1, 13)], "--rows", "1")
    assert done.exit_code == 0
    for words in ("12 examples for supervised, in tokens of tiny", "Tokens an example", "what is learnt in green"):
        assert words in done.output
    assert "Training: 8 epochs by default" in done.output


def test_a_bad_file_names_its_lines_and_fails(check):
    done = check([chat_line("q", "a"), "{}", '{"messages": 3}'])
    assert done.exit_code == 1
    assert "Example 2" in done.output
    assert "Example 3" in done.output
