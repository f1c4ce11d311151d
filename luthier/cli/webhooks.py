"""`luthier webhooks`: where the server tells of finished jobs, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Create, list, test and delete webhook endpoints; see what was sent, and send it again."
)
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


@app.command()
def deliveries(
    endpoint: Annotated[str | None, typer.Option(help="To this endpoint alone, whe_…", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
) -> None:
    """List what was sent or is to be, and how it went. Luthier's alone: OpenAI has no such list."""
    from luthier.cli.display import moment, table
    from luthier.cli.session import connect_aloud

    query: dict[str, object] = {"limit": limit} | ({"webhook_endpoint_id": endpoint} if endpoint else {})
    found = connect_aloud().get("/webhook_deliveries", cast_to=dict, options={"params": query})
    rows = [
        (d["id"], moment(d["created_at"]), d["event_type"], d["status"], d["attempts"], d["last_error"])
        for d in found["data"]
    ]
    table(None, ("delivery", "when", "event", "status", "attempts", "last error"), rows)


@app.command()
def resend(
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id, wh_…", show_default=False)],
) -> None:
    """Send a delivery again, arrived or not; receivers see the same webhook-id."""
    from luthier.cli.display import hint, say
    from luthier.cli.session import connect_aloud

    sent = connect_aloud().post(f"/webhook_deliveries/{delivery}/resend", cast_to=dict)
    say(f"{sent['id']} is sent again to {sent['webhook_endpoint_id']}")
    hint("next: luthier webhooks deliveries")
