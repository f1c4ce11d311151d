from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, Unauthenticated
from luthier.core.prices import Price
from luthier.core.settings import Access, Settings, find_access, load


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
        ("training_memory = 4", "4GB"),
        ("aliases = 'gpt-4'", "NAME=MODEL"),
        ("[prices.base]\ninput = 1", "prices"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(InvalidRequest, match=words):
        load({}, toml=write(tmp_path, text))


def test_clients_go_where_the_environment_says(tmp_path):
    told = {"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": "sk-x"}
    assert find_access(Settings(data=tmp_path), told) == Access("https://api.openai.com/v1", "sk-x", local=False)
    with pytest.raises(Unauthenticated, match="OPENAI_API_KEY"):
        find_access(Settings(data=tmp_path), {"OPENAI_BASE_URL": "https://api.openai.com/v1"})


def test_clients_find_this_machines_server_and_leave_another_servers_key_alone(tmp_path):
    settings = Settings(data=tmp_path, port=9)
    elsewhere = {"OPENAI_API_KEY": "sk-of-openai"}
    with pytest.raises(Unauthenticated, match="luthier serve"):
        find_access(settings, elsewhere)
    settings.key_file.write_text("sk-luthier-1\n")
    assert find_access(settings, elsewhere) == Access("http://127.0.0.1:9/v1", "sk-luthier-1", local=True)
    preset = Settings(data=tmp_path, port=9, api_key="sk-preset")
    assert find_access(preset, {}).api_key == "sk-preset"
