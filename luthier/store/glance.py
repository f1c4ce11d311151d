"""Single rows straight from SQLite's driver, for what every request asks. Knows no table by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

_DIALECT: Final = sqlite.dialect()


class Glance:
    """A query for one row, put into SQL once. SQLAlchemy's way to it takes ten times as long as SQLite's answer."""

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        compiled = statement.compile(dialect=_DIALECT)
        self._sql, self._names = str(compiled), compiled.positiontup or ()
        columns = statement.selected_columns
        types = (column.type.dialect_impl(_DIALECT) for column in columns)
        self._columns = [(str(c.key), t.result_processor(_DIALECT, None)) for c, t in zip(columns, types, strict=True)]

    def first(self, connection: sqlite3.Connection, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """The first row, by its columns' names."""
        row = connection.execute(self._sql, [parameters[name] for name in self._names]).fetchone()
        if row is None:
            return None
        return {key: made(v) if made else v for (key, made), v in zip(self._columns, row, strict=True)}
