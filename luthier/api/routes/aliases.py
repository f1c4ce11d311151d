"""`/v1/model_aliases`: names that move between models. Ours; OpenAI has no such operation."""

from __future__ import annotations

from fastapi import APIRouter

from luthier.api.auth import Reader, ThePlatform, Tuner
from luthier.api.json_route import JsonRoute
from luthier.api.wire.aliases import AliasAnswer, AliasList, MoveAlias
from luthier.api.wire.base import Deleted
from luthier.domain import aliases

router = APIRouter(prefix="/model_aliases", tags=["models"], route_class=JsonRoute)


@router.get("", operation_id="listModelAliases")
def list_aliases(platform: ThePlatform, caller: Reader) -> AliasList:
    """The project's aliases."""
    return AliasList(data=[AliasAnswer.of(alias) for alias in aliases.list_all(platform, caller)])


@router.post("", operation_id="moveModelAlias")
def move(platform: ThePlatform, caller: Tuner, body: MoveAlias) -> AliasAnswer:
    """Make an alias, or point it elsewhere."""
    return AliasAnswer.of(aliases.move(platform, caller, body.name, body.model))


@router.get("/{name:path}/history", operation_id="listModelAliasHistory")
def history(platform: ThePlatform, caller: Reader, name: str) -> AliasList:
    """Where an alias has pointed, newest first."""
    return AliasList(data=[AliasAnswer.of(alias) for alias in aliases.history(platform, caller, name)])


@router.post("/{name:path}/rollback", operation_id="rollBackModelAlias")
def roll_back(platform: ThePlatform, caller: Tuner, name: str) -> AliasAnswer:
    """Point an alias to where it pointed before."""
    return AliasAnswer.of(aliases.roll_back(platform, caller, name))


@router.delete("/{name:path}", operation_id="deleteModelAlias")
def delete(platform: ThePlatform, caller: Tuner, name: str) -> Deleted:
    """Remove an alias."""
    aliases.remove(platform, caller, name)
    return Deleted(id=name, object="model_alias")
