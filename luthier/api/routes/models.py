"""`/v1/models`."""

from __future__ import annotations

from fastapi import APIRouter

from luthier.api.auth import Reader, ThePlatform, Tuner
from luthier.api.wire.base import Deleted
from luthier.api.wire.models import ModelAnswer, ModelList
from luthier.domain import models

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", operation_id="listModels")
def list_models(platform: ThePlatform, caller: Reader) -> ModelList:
    """Bases, aliases, and the project's tuned models."""
    return ModelList(data=[ModelAnswer.of(card) for card in models.cards(platform, caller.project_id)])


# A base may have a slash in its name, as on Hugging Face's hub.
@router.get("/{model:path}", operation_id="retrieveModel")
def retrieve(platform: ThePlatform, caller: Reader, model: str) -> ModelAnswer:
    """One model."""
    return ModelAnswer.of(models.card(platform, caller.project_id, model))


@router.delete("/{model:path}", operation_id="deleteModel")
def delete(platform: ThePlatform, caller: Tuner, model: str) -> Deleted:
    """Delete a tuned model of one's own."""
    models.delete(platform, caller.project_id, model)
    return Deleted(id=model, object="model")
