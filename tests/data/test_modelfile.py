from datetime import date

from luthier.data.modelfile import modelfile
from luthier.data.template import ChatTemplate

TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_date_that_ollama_cannot_tell_is_named():
    text = modelfile(ChatTemplate("{{ strftime_now('%d %b %Y') }}" + TURNS), ("</s>",), "model.gguf")
    first, second, *_ = text.splitlines()
    assert first.startswith("# ")
    assert str(date.today()) in first
    assert second == "FROM ./model.gguf"
    assert f"{date.today():%d %b %Y}<user>" in text


def test_a_template_without_a_date_has_no_remark():
    text = modelfile(ChatTemplate(TURNS), ("</s>", "<end>"), "model.gguf")
    assert text.startswith("FROM ./model.gguf\nTEMPLATE ")
    assert text.endswith('PARAMETER stop "</s>"\nPARAMETER stop "<end>"\n')
