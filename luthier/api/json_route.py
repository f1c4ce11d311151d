"""Routes that read JSON bodies. What no answer of ours could carry (NaN, half a surrogate pair) is no JSON to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from luthier.core.json import Json, parsed


class _JsonRequest(Request):
    async def json(self) -> Json:
        """The body. Errors: `JSONDecodeError`, the only one that FastAPI takes for a body's own fault."""
        body = await self.body()
        try:
            return parsed(body)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class JsonRoute(APIRoute):
    """The `route_class` of routers whose operations take a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json
