"""`luthier export` and `luthier import-adapter`: doors on the server's own machine, for they move its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.organization import ProjectId
from luthier.cli.serve import Data

if TYPE_CHECKING:
    from luthier.domain.platform import Platform


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A tuned model, or an alias.", show_default=False)],
    to: Annotated[str, typer.Option(help="adapter, merged, gguf, ollama or hub.")],
    output: Annotated[Path, typer.Option(help="An empty folder, or a new one.")],
    repo: Annotated[str | None, typer.Option(help="With --to hub: where to push it, OWNER/NAME.")] = None,
    project: ProjectId = None,
    data: Data = None,
) -> None:
    """Take a tuned model away: PEFT adapter, merged safetensors, GGUF, Ollama folder, or a push to the hub."""
    from luthier.cli.display import pull_bar, say
    from luthier.core.errors import InvalidRequest
    from luthier.domain import exporting, hub

    if (to == "hub") != (repo is not None):
        raise InvalidRequest("--to hub wants --repo OWNER/NAME, and nothing else does")
    with _platform(data) as platform, pull_bar() as bar:
        certificate = exporting.export(platform, model, to, output, bar, project=project)
    say(f"{model} is in {output}: {certificate}")
    if repo is not None:
        say(f"pushed to {hub.push(output, repo)}")


def import_adapter(
    adapter: Annotated[Path, typer.Argument(metavar="FOLDER", help="A PEFT adapter.", show_default=False)],
    base: Annotated[str, typer.Option(help="The base model that it was trained on.")],
    name: Annotated[str | None, typer.Option(help="What to call it.", show_default="ft:BASE:ORG:SUFFIX:ID")] = None,
    suffix: Annotated[str, typer.Option(help="The SUFFIX of its name.")] = "",
    project: ProjectId = None,
    data: Data = None,
) -> None:
    """Make a PEFT adapter from elsewhere a tuned model of this server, once the engine answers with it as it should."""
    from luthier.cli.display import pull_bar, say
    from luthier.domain import exporting

    with _platform(data) as platform, pull_bar() as bar:
        made, certificate = exporting.import_adapter(platform, adapter, base, name, suffix, bar, project=project)
    say(f"{made}: {certificate}")


@contextmanager
def _platform(data: Path | None) -> Iterator[Platform]:
    from luthier.core.settings import load
    from luthier.domain.platform import open_platform

    platform = open_platform(load(data=data))
    try:
        yield platform
    finally:
        platform.close()
