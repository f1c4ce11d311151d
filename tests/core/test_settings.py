from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.prices import Price
from luthier.core.settings import load


def write(folder: Path, text: str) -> Path:
    file = folder / "luthier.toml"
    file.write_text(text)
    return file


def test_command_line_beats_environment_beats_file(tmp_path):
    toml = write(tmp_path, 'port = 1\nhost = "a"\norganization = "acme"\n')
    settings = load({"LUTHIER_PORT": "2", "LUTHIER_HOST": "b"}, toml=toml, port=3, host=None)
    assert (settings.port, settings.host, settings.organization) == (3, "b", "acme")


def test_aliases_from_the_environment(tmp_path):
    environment = {"LUTHIER_ALIASES": "gpt-4o-mini=smollm2-135m-instruct, gpt-3.5-turbo = x"}
    settings = load(environment, toml=tmp_path / "none")
    assert settings.aliases == {"gpt-4o-mini": "smollm2-135m-instruct", "gpt-3.5-turbo": "x"}


def test_prices_and_bases_are_tables(tmp_path):
    toml = write(
        tmp_path,
        "[prices.base]\ntraining=1\ninput=2\ncached_input=3\noutput=4\n[bases.mine]\nsource='file:/tmp/m.gguf'\n",
    )
    settings = load({}, toml=toml)
    assert settings.prices["base"] == Price(1, 2, 3, 4)
    assert settings.bases["mine"].source == "file:/tmp/m.gguf"
    assert "tuned" in settings.prices


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", 'unknown setting "prot"'),
        ("port = 'x'", "setting port"),
        ("webhook_private_hosts = 'perhaps'", "true or false"),
        ("= 1", "not valid TOML"),
        ("aliases = 'gpt-4'", "NAME=MODEL"),
        ("[prices.base]\ninput = 1", "prices"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(InvalidRequest, match=words):
        load({}, toml=write(tmp_path, text))
