"""What a terminal shows is what was meant: names with colons, brackets, other letters."""

import json
import subprocess

import pytest

from luthier.cli.compare import read_examples, read_prompts
from luthier.cli.display import say, table
from luthier.cli.session import first_system_message, paste

CHAT = {"messages": [{"role": "system", "content": "Réponds `id` $HOME\nbref"}, {"role": "user", "content": "q"}]}


class Client:
    base_url = "http://127.0.0.1:8000/v1/"


def test_names_are_printed_as_they_are(capsys):
    name = "ft:smollm2-135m-instruct:personal:rocket:abcd1234"
    say(name)
    table(None, ["name", "[odd]"], [[name, "a [/b] [prod] :fire: bot"]])
    printed = capsys.readouterr().out
    assert printed.count(name) == 2
    assert "a [/b] [prod] :fire: bot" in printed
    assert "[odd]" in printed


@pytest.mark.parametrize("before", ["", "\ufeff", "\n"])
def test_the_call_to_paste_says_what_was_trained(tmp_path, capsys, before):
    data = tmp_path / "chats.jsonl"
    data.write_text(before + json.dumps(CHAT, ensure_ascii=False) + "\n", encoding="utf-8")
    assert first_system_message(data) == CHAT["messages"][0]["content"]
    paste(Client(), "m", data)
    command = capsys.readouterr().out.partition("luthier chat")[2].partition("\n\nor in Python")[0]
    said = subprocess.run(["sh", "-c", f"printf %s{command.partition('--system')[2]}"], capture_output=True, check=True)
    assert said.stdout.decode() == CHAT["messages"][0]["content"]


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0c"])
def test_lines_end_at_line_feeds_alone(tmp_path, odd):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"a{odd}b"}]
    text = json.dumps({"messages": chat}, ensure_ascii=False) if odd != "\x0c" else json.dumps({"messages": chat})
    assert [row.reference for row in read_examples(f"{text}\n{text}\n")] == [f"a{odd}b"] * 2
    file = tmp_path / "rows.jsonl"
    file.write_text(f"\ufeff{text}\r\n", encoding="utf-8")
    assert [row.reference for row in read_prompts(file, None)] == [f"a{odd}b"]
