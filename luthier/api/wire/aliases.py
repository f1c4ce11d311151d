"""Aliases on the wire. OpenAI has none; theirs are ours alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from luthier.api.wire.base import Answer, Body
from luthier.core.models import Alias


class MoveAlias(Body):
    """`POST /model_aliases`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^\S+$")]
    model: str


class AliasAnswer(Answer):
    """Where a name points; null once it was removed."""

    object: Literal["model_alias"] = "model_alias"
    name: str
    model: str | None
    created_at: int
    api_key_id: str

    @staticmethod
    def of(alias: Alias) -> AliasAnswer:
        """The alias on the wire."""
        return AliasAnswer(name=alias.name, model=alias.model, created_at=alias.created_at, api_key_id=alias.key_id)


class AliasList(Answer):
    """Aliases, or one alias's history."""

    object: Literal["list"] = "list"
    data: list[AliasAnswer]
