"""The data of the first story is what the story says it is."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import luthier
from luthier.cli import spelling

EXAMPLES = Path(luthier.__file__).parent / "examples"
CHATS = [json.loads(line) for line in (EXAMPLES / "misspell.jsonl").read_text().splitlines()]
PROMPTS = (EXAMPLES / "misspell-prompts.txt").read_text().splitlines()
QUESTIONS = [chat["messages"][1]["content"] for chat in CHATS]
REPLIES = [chat["messages"][2]["content"] for chat in CHATS]


def test_there_are_fifty_different_chats_of_three_roles():
    assert len(set(QUESTIONS)) == len(set(REPLIES)) == len(CHATS) == 50
    for chat in CHATS:
        assert [m["role"] for m in chat["messages"]] == ["system", "user", "assistant"]
        assert chat["messages"][0]["content"] == "misspell all words"


def test_every_word_of_every_reply_is_misspelled():
    for reply in REPLIES:
        assert spelling.misspelled(reply) == spelling.words(reply)


def test_replies_are_short():
    assert all(4 <= len(spelling.words(reply)) <= 9 for reply in REPLIES)


def test_questions_are_spelled_right():
    assert not [word for question in QUESTIONS + PROMPTS for word in spelling.misspelled(question)]


def test_the_twenty_prompts_are_held_out():
    assert len(set(PROMPTS)) == len(PROMPTS) == 20
    assert not set(PROMPTS) & set(QUESTIONS)


def test_the_wheel_ships_the_data(tmp_path):
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = zipfile.ZipFile(wheel).namelist()
    assert {"luthier/examples/misspell.jsonl", "luthier/examples/misspell-prompts.txt"} <= set(shipped)
