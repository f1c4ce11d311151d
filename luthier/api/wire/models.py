"""Models on the wire."""

from __future__ import annotations

from typing import Literal

from luthier.api.wire.base import Answer
from luthier.domain.models import ModelCard


class ModelAnswer(Answer):
    """A model that can be called."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str

    @staticmethod
    def of(card: ModelCard) -> ModelAnswer:
        """The model on the wire."""
        return ModelAnswer(id=card.name, created=card.created_at, owned_by=card.owned_by)


class ModelList(Answer):
    """All models; the API pages nothing here."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]
