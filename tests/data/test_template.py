"""Templates render what transformers renders, bounded; answers are found where they stand."""

import json
from datetime import date, datetime

import pytest
from tokenizers import Tokenizer

from luthier.core.errors import InvalidRequest
from luthier.data.builtin_templates import BUILT_IN
from luthier.data.template import ChatTemplate
from tests.tiny import CHATML, make_base

CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "<b>hi</b> & 'bye'\n"},
    {"role": "assistant", "content": "hello \u00e9"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "hello again"},
]
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
CALLS = [
    {"role": "user", "content": "what time is it?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    {"role": "tool", "tool_call_id": "c2", "content": "one"},
    {"role": "assistant", "content": "It is noon."},
]
# The constructs that templates on the hub use: macros, namespaces, loop controls, filters, whitespace control.
RICH = """{%- macro head(role) %}<|{{ role }}|>{% endmacro %}
{%- set ns = namespace(count=0) %}
{{- bos_token }}
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{% for message in messages %}
    {%- if message.role == "tool" %}{% continue %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {{- head(message.role) }}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}{{ call.function | tojson }}{% endfor %}
    {%- endif %}
    {%- generation %}{{ message.content | trim }}{% endgeneration %}
    {{- eos_token }}
{% endfor %}
{{- ns.count }}
{%- if add_generation_prompt %}{{ head("assistant") }}{% endif %}"""


@pytest.mark.parametrize("source", [CHATML, RICH])
@pytest.mark.parametrize("prompt", [False, True])
def test_the_text_is_that_of_transformers(tmp_path, source, prompt):
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(make_base(tmp_path).tokenizer))
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    theirs.chat_template = source
    ours = ChatTemplate(source, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    tools = [TOOL] if source == RICH else None
    assert ours.render(CHAT, tools or (), add_generation_prompt=prompt) == theirs.apply_chat_template(
        CHAT, tools=tools, tokenize=False, add_generation_prompt=prompt
    )


def test_answers_stand_with_their_end_of_turn_and_without_the_line_break_after_it():
    rendered = ChatTemplate(CHATML).render_answers(CHAT, [False, False, True, False, True])
    assert [rendered.text[s.start : s.end] for s in rendered.spans] == [
        "hello \u00e9<|im_end|>",
        "hello again<|im_end|>",
    ]
    assert rendered.ends_open


def test_only_asked_answers_are_found():
    rendered = ChatTemplate(CHATML).render_answers(CHAT, [False, False, True, False, False])
    assert [rendered.text[s.start : s.end] for s in rendered.spans] == ["hello \u00e9<|im_end|>"]
    assert not rendered.ends_open


def test_a_template_that_forgets_earlier_answers_is_refused_by_message():
    forgetful = CHATML.replace("message['content']", "(message['content'] if loop.last else '')")
    template = ChatTemplate(forgetful)
    assert template.render_answers(CHAT[-1:], [True]).spans
    with pytest.raises(InvalidRequest, match="message 3: the base model's chat template does not render"):
        template.render_answers(CHAT, [False, False, True, False, True])


def test_tools_are_told_in_text_where_the_template_knows_none():
    text = ChatTemplate(CHATML).render(CALLS, [TOOL], parallel_tool_calls=False)
    system, user, call, result, answer = text.removesuffix("<|im_end|>\n").split("<|im_end|>\n")
    assert f"<tools>\n{json.dumps(TOOL)}\n</tools>" in system
    assert system.endswith("Call at most one function at a time.")
    assert user == "<|im_start|>user\nwhat time is it?"
    expected = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
    assert call == f"<|im_start|>assistant\n{expected}"
    assert result == (
        "<|im_start|>user\n<tool_response>\nnoon\n</tool_response>\n<tool_response>\none\n</tool_response>"
    )
    assert answer == "<|im_start|>assistant\nIt is noon."


def test_tools_join_the_system_prompt_that_there_is():
    text = ChatTemplate(CHATML).render(CHAT[:2], [TOOL])
    assert text.startswith("<|im_start|>system\nbe brief\n\n# Tools")


def test_old_and_structured_messages_become_current_ones():
    old = [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "not json"}},
        {"role": "function", "name": "now", "content": "noon"},
        {"role": "assistant", "content": None, "refusal": "I will not"},
    ]
    text = ChatTemplate(CHATML).render(old)
    assert text.startswith("<|im_start|>system\nbe brief<|im_end|>")
    assert '{"name": "now", "arguments": "not json"}' in text
    assert "<tool_response>\nnoon\n</tool_response>" in text
    assert text.endswith("I will not<|im_end|>\n")
    knows = ChatTemplate("{% for m in messages %}{{ m.role }}{% if m.role == 'developer' %}!{% endif %}{% endfor %}")
    assert knows.render(old[:1]) == "developer!"


def test_the_date_is_the_one_given_or_the_clocks():
    dated = "{{ strftime_now('%d %b %Y %H:%M') }}"
    leap_day = date(2024, 2, 29)
    template = ChatTemplate(dated, today=leap_day)
    assert template.render(CHAT) == "29 Feb 2024 00:00"
    assert template.on(date(2025, 1, 1)).render(CHAT) == "01 Jan 2025 00:00"
    assert template.render(CHAT) == "29 Feb 2024 00:00"
    assert template.on(None).render(CHAT).startswith(f"{datetime.now():%d %b %Y}")


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_families_without_a_system_message_want_a_user_to_carry_it(name):
    template = ChatTemplate(BUILT_IN[name])
    system, user, answer = CHAT[:3]
    assert "be brief" in template.render([system, user, answer])
    assert template.render_answers([user, answer], [False, True]).spans
    for chat in ([answer], [system, answer], [system, answer, user]):
        with pytest.raises(InvalidRequest, match="the first must be from the user"):
            template.render(chat)


BAD_TEMPLATES = {
    "does not compile": ("{% if %}", "will not compile"),
    "refuses": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    "reads what is not there": ("{{ messages[9].content.x.y }}", "refuses this chat"),
    "reaches into Python": ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "refuses this chat"),
    "changes its input": ("{{ messages.append(1) }}", "refuses this chat"),
    "repeats": ("{{ 'x' * 10 ** 9 }}", "may not compute"),
    "repeats a text": ("{{ 'x' * 1000000000 }}", "may not repeat"),
    "never ends": ("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "more than"),
}


@pytest.mark.parametrize("name", BAD_TEMPLATES)
def test_a_bad_template_is_refused(name, monkeypatch):
    monkeypatch.setattr("luthier.data.template.MAX_SECONDS", 0.2)
    source, words = BAD_TEMPLATES[name]
    with pytest.raises(InvalidRequest, match=words):
        ChatTemplate(source).render(CHAT)
