"""The pages say what the code does."""

from dataclasses import fields
from pathlib import Path

from luthier.core.settings import Settings
from tools.commands import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_commands_page_is_up_to_date():
    assert (DOCS / "commands.md").read_text() == page(), "run python tools/commands.py"


def test_every_setting_is_on_the_settings_page():
    text = (DOCS / "settings.md").read_text()
    assert not [field.name for field in fields(Settings) if f"`{field.name}`" not in text]
