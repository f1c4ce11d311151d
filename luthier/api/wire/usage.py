"""Usage and costs on the wire."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import Field

from luthier.api.wire.base import Answer, Query, Unsupported
from luthier.core.errors import InvalidRequest
from luthier.core.usage import UsageQuery, UsageTotal
from luthier.domain.costs import Cost

WIDTHS: Final = {"1m": 60, "1h": 3600, "1d": 86_400}
LIMITS: Final = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # default and most buckets of a page
COST_LIMIT: Final = 180
NO_USERS: Final = "keys belong to projects here, not to users"
Group = Literal["project_id", "user_id", "api_key_id", "model", "batch", "service_tier"]
_OURS: Final = {"project_id": "project_id", "api_key_id": "key_id", "model": "model", "batch": "batch"}


class BucketQuery(Query):
    """A stretch of time in buckets."""

    start_time: int
    end_time: int | None = None
    project_ids: list[str] = Field([], alias="project_ids[]")
    api_key_ids: list[str] = Field([], alias="api_key_ids[]")
    page: str | None = None

    def _query(self, width_s: int, limit: int, group_by: Sequence[str]) -> UsageQuery:
        """The buckets of this page; they begin at whole minutes, hours or days, as OpenAI's do."""
        start = _cursor(self.page) if self.page else self.start_time - self.start_time % width_s
        last = self.end_time if self.end_time is not None else int(time.time()) + 1
        return UsageQuery(
            start=start,
            end=min(start + limit * width_s, last + -last % width_s),
            width_s=width_s,
            group_by=[_OURS[name] for name in group_by],
            project_ids=self.project_ids,
            key_ids=self.api_key_ids,
        )

    def _more(self, query: UsageQuery) -> bool:
        return query.end < (self.end_time if self.end_time is not None else int(time.time()) + 1)


class UsageBucketQuery(BucketQuery):
    """`GET /organization/usage/completions`."""

    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    user_ids: Annotated[list[str] | None, Unsupported(why=NO_USERS)] = Field(None, alias="user_ids[]")
    models: list[str] = Field([], alias="models[]")
    batch: bool | None = None
    group_by: list[Group] = Field([], alias="group_by[]")
    limit: Annotated[int | None, Field(ge=1, le=1440)] = None

    def to_query(self) -> UsageQuery:
        """The query as the store asks it. Errors: `InvalidRequest` for groups that there are not."""
        for name in self.group_by:
            if name not in _OURS:
                raise InvalidRequest(
                    f"Invalid 'group_by': {name} cannot be had on this server; {NO_USERS}, and there is one tier.",
                    code="unsupported_value",
                    param="group_by",
                )
        usual, most = LIMITS[self.bucket_width]
        asked = self._query(WIDTHS[self.bucket_width], min(self.limit or usual, most), self.group_by)
        return replace(asked, models=self.models, batch=self.batch)


class CostQuery(BucketQuery):
    """`GET /organization/costs`."""

    bucket_width: Literal["1d"] = "1d"
    group_by: list[Literal["project_id", "line_item", "api_key_id"]] = Field([], alias="group_by[]")
    limit: Annotated[int, Field(ge=1, le=COST_LIMIT)] = 7

    def to_query(self) -> UsageQuery:
        """The query as the store asks it; lines are told apart by its caller."""
        return self._query(WIDTHS["1d"], self.limit, [name for name in self.group_by if name != "line_item"])


class CompletionsUsage(Answer):
    """Sums of one group; null for what was not grouped by."""

    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"
    input_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: None = None
    api_key_id: str | None
    model: str | None
    batch: bool | None
    service_tier: None = None


class Amount(Answer):
    """Money."""

    value: float
    currency: Literal["usd"] = "usd"


class CostResult(Answer):
    """Dollars of one group; null for what was not grouped by."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None
    project_id: str | None
    api_key_id: str | None
    quantity: int | None
    quantity_unit: Literal["tokens"] | None


class Bucket(Answer):
    """What fell into one stretch of time."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CompletionsUsage] | list[CostResult]


class UsagePage(Answer):
    """Buckets, empty ones too."""

    object: Literal["page"] = "page"
    data: list[Bucket]
    has_more: bool
    next_page: str | None


def usage_page(asked: UsageBucketQuery, query: UsageQuery, totals: Sequence[UsageTotal]) -> UsagePage:
    """The sums on the wire."""
    found: dict[int, list[CompletionsUsage]] = defaultdict(list)
    for total in totals:
        found[total.start].append(
            CompletionsUsage(
                input_tokens=total.input_tokens,
                input_cached_tokens=total.cached_tokens,
                input_uncached_tokens=total.input_tokens - total.cached_tokens,
                output_tokens=total.output_tokens,
                num_model_requests=total.requests,
                project_id=total.group.project_id,
                api_key_id=total.group.key_id,
                model=total.group.model,
                batch=total.group.batch,
            )
        )
    return _page(asked, query, found)


def cost_page(asked: CostQuery, query: UsageQuery, costs: Sequence[Cost]) -> UsagePage:
    """The dollars on the wire."""
    found: dict[int, list[CostResult]] = defaultdict(list)
    for cost in costs:
        found[cost.start].append(
            CostResult(
                amount=Amount(value=cost.dollars),
                line_item=cost.line_item,
                project_id=cost.group.project_id,
                api_key_id=cost.group.key_id,
                quantity=cost.tokens,
                quantity_unit="tokens" if cost.tokens is not None else None,
            )
        )
    return _page(asked, query, found)


def _page(
    asked: BucketQuery, query: UsageQuery, found: dict[int, list[CompletionsUsage]] | dict[int, list[CostResult]]
) -> UsagePage:
    starts = range(query.start, query.end, query.width_s)
    data = [
        Bucket(start_time=start, end_time=start + query.width_s, results=found.get(start) or []) for start in starts
    ]
    more = asked._more(query)
    return UsagePage(data=data, has_more=more, next_page=f"page_{query.end}" if more else None)


def _cursor(page: str) -> int:
    start = page.removeprefix("page_")
    if not start.isdigit():
        raise InvalidRequest("Invalid 'page': it is no next_page of an answer.", code="invalid_value", param="page")
    return int(start)
