"""A project's aliases: names that move between models at once, with their history, and back."""

from __future__ import annotations

import time

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.models import Alias
from luthier.core.projects import Caller
from luthier.domain import models
from luthier.domain.platform import Platform
from luthier.store import aliases
from luthier.store import models as rows


def move(platform: Platform, caller: Caller, name: str, model: str) -> Alias:
    """Point `name` to a model, whatever it pointed to. Errors: `NotFound`, `InvalidRequest` for a taken name."""
    if name in platform.bases.names() or rows.find(platform.database, name, caller.project_id):
        raise InvalidRequest(f"{name} is a model's own name; an alias needs another.", param="name")
    resolved = models.resolve(platform, caller.project_id, model)
    target = resolved.base if resolved.tuned is None else resolved.tuned.name
    return _point(platform, caller, name, target)


def roll_back(platform: Platform, caller: Caller, name: str) -> Alias:
    """Point `name` to where it pointed before its last move. Errors: `NotFound`, `InvalidRequest` without one."""
    moves = history(platform, caller, name)
    before = next((alias.model for alias in moves[1:] if alias.model not in (None, moves[0].model)), None)
    if before is None:
        raise InvalidRequest(f"{name} has pointed to no other model; there is nothing to go back to.", param="name")
    models.resolve(platform, caller.project_id, before)
    return _point(platform, caller, name, before)


def remove(platform: Platform, caller: Caller, name: str) -> None:
    """Let a name mean nothing any more; its history stays. Errors: `NotFound`."""
    if history(platform, caller, name)[0].model is None:
        raise _missing(name)
    _point(platform, caller, name, None)


def history(platform: Platform, caller: Caller, name: str) -> list[Alias]:
    """Where a name has pointed, newest first. Errors: `NotFound`."""
    moves = aliases.history(platform.database, caller.project_id, name)
    if not moves:
        raise _missing(name)
    return moves


def list_all(platform: Platform, caller: Caller) -> list[Alias]:
    """The project's aliases."""
    return aliases.list_all(platform.database, caller.project_id)


def _point(platform: Platform, caller: Caller, name: str, model: str | None) -> Alias:
    alias = Alias(caller.project_id, name, model, caller.key_id, int(time.time()))
    aliases.add(platform.database, alias)
    return alias


def _missing(name: str) -> NotFound:
    return NotFound(f"No such alias: {name}", code="not_found", param="name")
