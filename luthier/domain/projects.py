"""Projects of the organisation: made, named, archived."""

from __future__ import annotations

import time

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_id
from luthier.core.lists import Page, PageQuery
from luthier.core.projects import Caller, Project
from luthier.domain.audit import entry
from luthier.domain.platform import Platform
from luthier.store import projects
from luthier.store.database import Database


def create(database: Database, caller: Caller, name: str) -> Project:
    """A new project; it has no keys yet."""
    project = Project(new_id("project"), caller.organization_id, caller.organization, name, int(time.time()))
    projects.create(
        database, project, entry(caller, project.id, "project.created", project.id, {"data": {"name": name}})
    )
    return project


def get(database: Database, caller: Caller, project_id: str) -> Project:
    """A project. Errors: `NotFound`."""
    project = projects.get(database, caller.organization_id, project_id)
    if project is None:
        raise NotFound(f"No such project: {project_id}", code="not_found", param="project_id")
    return project


def list_page(database: Database, caller: Caller, query: PageQuery, *, archived: bool) -> Page[Project]:
    """Projects; those that are archived only if asked for."""
    return projects.list_page(database, caller.organization_id, query, archived=archived)


def rename(database: Database, caller: Caller, project_id: str, name: str) -> Project:
    """Give a project another name. Errors: `NotFound`."""
    project = get(database, caller, project_id)
    noted = entry(caller, project_id, "project.updated", project_id, {"changes_requested": {"title": name}})
    projects.change(database, project, noted, name=name)
    return get(database, caller, project_id)


def archive(platform: Platform, caller: Caller, project_id: str) -> Project:
    """End a project: its keys open nothing any more, what it has stays. An archived one is answered as it is.

    Errors: `NotFound`; `InvalidRequest` for the default project, which has this machine's own key.
    """
    database = platform.database
    project = get(database, caller, project_id)
    if project_id == platform.project.id:
        raise InvalidRequest("The default project cannot be archived.", code="invalid_value", param="project_id")
    if project.archived_at is None:
        noted = entry(caller, project_id, "project.archived", project_id, {})
        projects.change(database, project, noted, archived_at=noted.created_at)
    return get(database, caller, project_id)
