"""`luthier keys` and `luthier projects`: who may do what. For a key with the scope `admin`, as the first one has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.admin.organization import Project

keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
projects = typer.Typer(no_args_is_help=True, help="Create, list and archive projects.")
ProjectId = Annotated[
    str | None, typer.Option("--project", help="The project's id, proj_…", show_default="the first project")
]
DAY_S = 24 * 3600


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Your name for it.", show_default=False)],
    project: ProjectId = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, tune, infer or admin; may be repeated.", show_default="read, tune, infer"),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires.", show_default="never")] = None,
) -> None:
    """Make a key, and print it: it is shown this once."""
    from luthier.cli.display import say

    client = _connect()
    body: dict[str, Any] = {"name": name, **({"scopes": scope} if scope else {})}
    if days is not None:
        body["expires_in_seconds"] = days * DAY_S
    made = client.post(f"/organization/projects/{project or _first(client).id}/api_keys", body=body, cast_to=dict)
    say(f"{made['id']}\nOPENAI_API_KEY={made['value']}")


@keys.command("list")
def list_keys(project: ProjectId = None) -> None:
    """List a project's keys: what they may do, when they were last used, when they end."""
    from luthier.cli.display import moment, table

    client = _connect()
    listed = client.admin.organization.projects.api_keys.list(project or _first(client).id)
    rows = [
        (
            k.id,
            k.name,
            k.redacted_value,
            ", ".join((k.model_extra or {}).get("scopes", ())),
            moment(k.created_at),
            moment(k.last_used_at),
            moment(k.expires_at),
        )
        for k in listed
    ]
    table(None, ("key", "name", "ends in", "scopes", "created", "last used", "expires"), rows)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_…", show_default=False)],
    project: ProjectId = None,
) -> None:
    """End a key: from now on it opens nothing."""
    from luthier.cli.display import say

    client = _connect()
    client.admin.organization.projects.api_keys.delete(key, project_id=project or _first(client).id)
    say(f"{key} revoked")


@projects.command("create")
def create_project(name: Annotated[str, typer.Argument(help="Its name.", show_default=False)]) -> None:
    """Make a project, and print its id."""
    from luthier.cli.display import hint, say

    made = _connect().admin.organization.projects.create(name=name)
    say(made.id)
    hint(f"next: luthier keys create NAME --project {made.id}")


@projects.command("list")
def list_projects() -> None:
    """List projects, archived ones too."""
    from luthier.cli.display import moment, table

    listed = _connect().admin.organization.projects.list(include_archived=True)
    table(
        None,
        ("project", "name", "status", "created"),
        [(p.id, p.name, p.status, moment(p.created_at)) for p in listed],
    )


@projects.command()
def archive(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Its id, proj_…", show_default=False)],
) -> None:
    """End a project: its keys open nothing any more, what it has stays."""
    from luthier.cli.display import say

    _connect().admin.organization.projects.archive(project)
    say(f"{project} archived")


def _connect() -> OpenAI:
    """A client whose key is its admin key too."""
    from luthier.cli.session import connect_aloud

    client = connect_aloud()
    client.admin_api_key = client.admin_api_key or client.api_key
    return client


def _first(client: OpenAI) -> Project:
    *_, first = client.admin.organization.projects.list()  # newest first
    return first
