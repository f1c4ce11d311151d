"""What a route asks for: the platform, and a caller with the scope that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from luthier.core.errors import Forbidden
from luthier.core.projects import Caller, Scope
from luthier.domain.platform import Platform


async def _platform(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


def _with_scope(scope: Scope) -> Callable[[Request], object]:
    async def caller(request: Request) -> Caller:
        who: Caller = request.state.caller
        if scope not in who.scopes:
            raise Forbidden(
                f"You have insufficient permissions for this operation. Missing scope: {scope}.",
                code="missing_scope",
            )
        return who

    return caller


ThePlatform = Annotated[Platform, Depends(_platform)]
Reader = Annotated[Caller, Depends(_with_scope("read"))]
Tuner = Annotated[Caller, Depends(_with_scope("tune"))]
Inferrer = Annotated[Caller, Depends(_with_scope("infer"))]
Admin = Annotated[Caller, Depends(_with_scope("admin"))]
