"""The type of a JSON value, for the few places that pass documents through unread."""

from __future__ import annotations

from typing_extensions import TypeAliasType

# A named alias, so that Pydantic can follow it around its own tail.
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
JsonObject = dict[str, Json]
