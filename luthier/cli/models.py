"""`luthier models`: what can be called, and base models brought onto this machine."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from luthier.cli.serve import add, pull

app = typer.Typer(no_args_is_help=True, help="List, show and delete models; pull base models, and add your own.")
app.command()(pull)
app.command()(add)
Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.", show_default=False)]


@app.command("list")
def list_models() -> None:
    """List the models that the server answers for."""
    from luthier.cli.display import moment, table
    from luthier.cli.session import connect_aloud

    rows = [(m.id, m.owned_by, moment(m.created)) for m in connect_aloud().models.list()]
    table(None, ("model", "owned by", "created"), rows)


@app.command()
def show(name: Name) -> None:
    """Show a model, the job that made it, and its certificate."""
    from luthier.cli.compare import job_of
    from luthier.cli.display import say, table
    from luthier.cli.session import connect_aloud
    from luthier.core.errors import NotFound

    client = connect_aloud()
    model = client.models.retrieve(name)
    table(None, ("model", "owned by"), [(model.id, model.owned_by)])
    if name.startswith("ft:"):
        try:
            job = job_of(client, name)
        except NotFound:
            say("\nno job here made it: it was imported, or the name is an alias")
            return
        say(f"\nmade by: luthier jobs show {job.id}")
        for event in client.fine_tuning.jobs.list_events(job.id, limit=100):
            if isinstance(event.data, dict) and "largest_difference" in event.data:
                say(event.message)
                break


@app.command()
def alias(
    name: Annotated[str | None, typer.Argument(help="The alias; without it, all of them.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Argument(help="Where it points from now on; without it, its history.", show_default=False)
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Point it to where it pointed before.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Let it mean nothing.")] = False,
) -> None:
    """Names that move between models: list them, move one at once, look back, go back."""
    from luthier.cli.display import moment, say, table
    from luthier.cli.session import connect_aloud

    client = connect_aloud()
    path = f"/model_aliases/{quote(name or '')}"
    if name and remove:
        client.delete(path, cast_to=dict)
        say(f"{name} removed")
    elif name and (model or rollback):
        moved = (
            client.post(f"{path}/rollback", cast_to=dict)
            if rollback
            else client.post("/model_aliases", body={"name": name, "model": model}, cast_to=dict)
        )
        say(f"{name} is {moved['model']}")
    else:
        found = client.get(f"{path}/history" if name else "/model_aliases", cast_to=dict)
        rows = [(a["name"], a["model"], moment(a["created_at"])) for a in found["data"]]
        table(None, ("alias", "model", "since"), rows)


@app.command()
def delete(name: Name) -> None:
    """Delete a tuned model of yours."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    connect_aloud().models.delete(name)
    say(f"{name} deleted")
