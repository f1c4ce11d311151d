"""`luthier models`: what can be called, and base models brought onto this machine."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from luthier.cli.serve import pull

app = typer.Typer(no_args_is_help=True, help="List, show, delete and pull models.")
app.command()(pull)
Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.", show_default=False)]


@app.command("list")
def list_models() -> None:
    """List the models that the server answers for."""
    from luthier.cli.display import table
    from luthier.cli.session import connect_aloud

    rows = [
        (m.id, m.owned_by, datetime.fromtimestamp(m.created).strftime("%Y-%m-%d %H:%M"))
        for m in connect_aloud().models.list()
    ]
    table(None, ("model", "owned by", "created"), rows)


@app.command()
def show(name: Name) -> None:
    """Show a model, and the job that made it."""
    from luthier.cli.compare import job_of
    from luthier.cli.display import say, table
    from luthier.cli.session import connect_aloud

    client = connect_aloud()
    model = client.models.retrieve(name)
    table(None, ("model", "owned by"), [(model.id, model.owned_by)])
    if name.startswith("ft:"):
        say(f"\nmade by: luthier jobs show {job_of(client, name).id}")


@app.command()
def delete(name: Name) -> None:
    """Delete a tuned model of yours."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    connect_aloud().models.delete(name)
    say(f"{name} deleted")
