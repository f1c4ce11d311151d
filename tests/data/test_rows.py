"""Rows learn what the assistant says and its end of turn, nothing else, in the ids that serving would read."""

import json

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors

from luthier.core.errors import InvalidRequest
from luthier.data.chats import Chat, Completion, Preference
from luthier.data.rows import Rows
from luthier.data.template import ChatTemplate
from tests.tiny import CHATML, make_base

MESSAGES = (
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "h\u00e9llo \U0001f600"},
    {"role": "assistant", "content": "yes \U0001f600"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "no"},
)


def make_joining(path, change=None, **parts):
    """A base whose tokenizer has tokens of line breaks and spaces together, as SmolLM2's has."""
    base = make_base(path, **parts)
    state = json.loads(base.tokenizer.read_text())
    for one, other in (
        ("\u010a", "\u010a"),
        ("\u0120", "\u0120"),
        ("\u010a", "\u0120\u0120"),
        ("\u0120", "x"),
        ("f", "o"),
    ):
        state["model"]["vocab"][one + other] = len(state["model"]["vocab"])
        state["model"]["merges"].append([one, other])
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if change is not None:
        change(tokenizer)
    tokenizer.save(str(base.tokenizer))
    return base


def ids_alone(base, text):
    """What serving reads of a prompt."""
    return Tokenizer.from_file(str(base.tokenizer)).encode(text, add_special_tokens=False).ids


def texts(base, row):
    """What a row learns, as runs of text."""
    tokenizer = Tokenizer.from_file(str(base.tokenizer))
    runs, current = [], []
    for token, weight in [*zip(row.ids.tolist(), row.weights.tolist(), strict=True), (0, 0)]:
        if weight:
            current.append(token)
        elif current:
            runs.append(tokenizer.decode(current, skip_special_tokens=False))
            current = []
    return runs


def one(base, example, context_tokens=512):
    [rows] = Rows(base, context_tokens).encode([(1, example)])
    return rows


def test_a_chat_learns_its_trained_answers(tmp_path):
    base = make_base(tmp_path)
    [row] = one(base, Chat(MESSAGES, (False, False, True, False, True)))
    assert texts(base, row) == ["yes \U0001f600<|im_end|>", "no<|im_end|>"]
    [row] = one(base, Chat(MESSAGES, (False, False, False, False, True)))
    assert texts(base, row) == ["no<|im_end|>"]
    whole = ChatTemplate(CHATML).render(MESSAGES)
    assert row.ids.tolist() == Tokenizer.from_file(str(base.tokenizer)).encode(whole).ids


def test_a_prompt_has_the_ids_that_serving_reads(tmp_path):
    base = make_base(tmp_path)
    [row] = one(base, Chat(MESSAGES, (False, False, False, False, True)))
    prompt = ChatTemplate(CHATML).render(MESSAGES[:-1], add_generation_prompt=True)
    ids = Tokenizer.from_file(str(base.tokenizer)).encode(prompt).ids
    assert row.ids[: len(ids)].tolist() == ids
    assert row.weights[: len(ids)].sum() == 0
    assert row.weights[len(ids)] == 1


def trimming(tokenizer):
    """As Llama 3's: spaces at a token's ends are left out of what it stands for."""
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)


@pytest.mark.parametrize("change", [None, trimming])
@pytest.mark.parametrize("answer", ["\n\nRome", "\nRome", "    x = 1", "   x", "Rome", " x", "\n"])
def test_an_answer_that_would_join_with_its_prompt_is_cut_off_from_it(tmp_path, answer, change):
    base = make_joining(tmp_path, change)
    said = {"role": "assistant", "content": answer}
    chat = Chat((*MESSAGES[:2], said, MESSAGES[3], said), (False, False, True, False, True))
    [row] = one(base, chat)
    assert texts(base, row) == [f"{answer}<|im_end|>"] * 2
    for place, (start, end) in zip((2, 4), row.answers, strict=False):
        prompt = ChatTemplate(CHATML).render(chat.messages[:place], add_generation_prompt=True)
        assert row.ids[:start].tolist() == ids_alone(base, prompt)
        assert row.ids[start:end].tolist() == ids_alone(base, f"{answer}<|im_end|>")
    # After an answer that was cut off, serving's prompt has it joined with its own.
    whole = ids_alone(base, ChatTemplate(CHATML).render(chat.messages))
    assert len(row.answers) == (2 if row.ids.tolist() == whole else 1)
    assert len(row.answers) == (2 if answer in ("Rome", " x", "\nRome") else 1)


@pytest.mark.parametrize("change", [None, trimming])
@pytest.mark.parametrize(
    ("prompt", "completion"), [("fo", "o"), ("f", "oo"), ("a: ", "x"), ("a:  ", "b"), ("a\n\n", "b"), ("a\n", "\n")]
)
def test_a_completion_that_would_join_with_its_prompt_is_cut_off_from_it(tmp_path, prompt, completion, change):
    base = make_joining(tmp_path, change)
    [row] = one(base, Completion(prompt, completion))
    [(start, end)] = row.answers
    assert row.ids[:start].tolist() == ids_alone(base, prompt)
    assert row.ids[start:end].tolist() == ids_alone(base, f"{completion}<|im_end|>")
    assert row.weights.tolist() == [0.0] * start + [1.0] * (end - start)


def prefixing(tokenizer):
    """A space before every text's first word, as SentencePiece's tokenizers put it."""
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


@pytest.mark.parametrize(("prompt", "completion"), [("f", "oo"), ("a\n", "\nb"), ("a ", "x."), ("a ", " b")])
def test_what_is_cut_off_gets_no_space_of_its_own(tmp_path, prompt, completion):
    base = make_joining(tmp_path, prefixing)
    [row] = one(base, Completion(prompt, completion))
    [(start, _)] = row.answers
    assert row.ids[:start].tolist() == ids_alone(base, prompt)
    assert texts(base, row) == [f"{completion}<|im_end|>"]


def test_a_completion_learns_its_end(tmp_path):
    base = make_base(tmp_path)
    [row] = one(base, Completion("2+2=", " 4"))
    assert texts(base, row) == [" 4<|im_end|>"]


def test_an_answer_that_its_template_does_not_end_is_ended(tmp_path):
    base = make_base(tmp_path, template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}")
    [row] = one(base, Chat(MESSAGES, (False, False, False, False, True)))
    assert texts(base, row) == ["assistant: no<|im_end|>"]


def test_bos_stands_first_where_the_engine_puts_it(tmp_path):
    base = make_base(tmp_path, adds_bos=True)
    [row] = one(base, Completion("a", "b"))
    assert row.ids.tolist()[0] == 0
    base = make_base(tmp_path / "own", adds_bos=True, template="{{ bos_token }}" + CHATML)
    [row] = one(base, Chat(MESSAGES, (False, False, False, False, True)))
    assert row.ids.tolist()[:2] == [0, 1]


def test_a_preference_is_two_rows_with_one_prompt(tmp_path):
    base = make_base(tmp_path)
    better, worse = (Chat((MESSAGES[1], {"role": "assistant", "content": c}), (False, True)) for c in ("ja", "nein"))
    preferred, rejected = one(base, Preference(better, worse))
    assert (texts(base, preferred), texts(base, rejected)) == (["ja<|im_end|>"], ["nein<|im_end|>"])


def test_a_row_is_cut_at_the_context(tmp_path):
    base = make_base(tmp_path)
    chat = Chat(MESSAGES, (False, False, True, False, True))
    [whole] = one(base, chat)
    [cut] = one(base, chat, context_tokens=60)
    assert (len(cut.ids), cut.cut) == (60, len(whole.ids) - 60)
    assert cut.ids.tolist() == whole.ids[:60].tolist()


def test_a_chat_that_the_template_refuses_is_named(tmp_path):
    base = make_base(tmp_path, template="{{ raise_exception('no') }}")
    with pytest.raises(InvalidRequest, match=r"^Example 7, the base model's chat template refuses this chat: no"):
        Rows(base, 10).encode([(7, Chat(MESSAGES[-1:], (True,)))])
