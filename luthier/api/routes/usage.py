"""`/v1/organization/usage` and `/v1/organization/costs`, for keys with the scope `admin`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from luthier.api.auth import Admin, ThePlatform
from luthier.api.invalid import validate
from luthier.api.wire.base import documented_query
from luthier.api.wire.usage import CostQuery, UsageBucketQuery, UsagePage, cost_page, usage_page
from luthier.domain import costs

router = APIRouter(prefix="/organization", tags=["usage"])


@router.get("/usage/completions", operation_id="usage-completions", openapi_extra=documented_query(UsageBucketQuery))
def completions(request: Request, platform: ThePlatform, caller: Admin) -> UsagePage:
    """Tokens and requests, in buckets of time."""
    asked = validate(UsageBucketQuery, _given(request, UsageBucketQuery))
    query = asked.to_query()
    return usage_page(asked, query, costs.usage_totals(platform, caller.organization_id, query))


@router.get("/costs", operation_id="usage-costs", openapi_extra=documented_query(CostQuery))
def cost(request: Request, platform: ThePlatform, caller: Admin) -> UsagePage:
    """Dollars by the settings' prices, in days."""
    asked = validate(CostQuery, _given(request, CostQuery))
    query = asked.to_query()
    by_line = "line_item" in asked.group_by
    return cost_page(asked, query, costs.cost_totals(platform, caller.organization_id, query, by_line=by_line))


def _given(request: Request, query: type[BaseModel]) -> dict[str, object]:
    """The parameters; lists come as `NAME[]`, as clients write them, or as `NAME`, as OpenAI's document does."""
    lists = {field.alias for field in query.model_fields.values() if field.alias}
    given: dict[str, object] = {}
    for name in request.query_params:
        listed = name if name in lists else f"{name}[]"
        values = request.query_params.getlist(name)
        given[listed if listed in lists else name] = values if listed in lists else values[-1]
    return given
