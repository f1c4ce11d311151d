"""`luthier webhooks`: where the server tells of finished jobs."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Create, list, test and delete webhook endpoints.")
Id = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, whe_…", show_default=False)]
JOB_EVENTS = ("fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled")


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where to post, https://…", show_default=False)],
    name: Annotated[str, typer.Option(help="Your name for it.")] = "luthier",
    event: Annotated[
        list[str] | None, typer.Option(help="An event to tell of; may be repeated.", show_default="a job's end")
    ] = None,
) -> None:
    """Make an endpoint, and print its secret: it is shown this once."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    made = connect_aloud().webhooks.create(url=url, name=name, event_types=event or list(JOB_EVENTS))  # type: ignore[arg-type]  # the server checks them
    say(f"{made.id}\nOPENAI_WEBHOOK_SECRET={made.signing_secret}")


@app.command("list")
def list_endpoints() -> None:
    """List endpoints."""
    from luthier.cli.display import table
    from luthier.cli.session import connect_aloud

    rows = [(e.id, e.name, e.url, ", ".join(e.event_types)) for e in connect_aloud().webhooks.list()]
    table(None, ("endpoint", "name", "url", "events"), rows)


@app.command("test")
def send_test(endpoint: Id, event: Annotated[str, typer.Option(help="The event to send.")] = JOB_EVENTS[0]) -> None:
    """Send an endpoint a sample, and print what it answered."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    tested = connect_aloud().webhooks.test(endpoint, event_type=event)  # type: ignore[arg-type]  # the server checks it
    say(f"{event}: the receiver answered {tested.status_code}")


@app.command()
def delete(endpoint: Id) -> None:
    """Delete an endpoint."""
    from luthier.cli.display import say
    from luthier.cli.session import connect_aloud

    connect_aloud().webhooks.delete(endpoint)
    say(f"{endpoint} deleted")
