"""A teacher's answers, kept as they come in OUTPUT.answers.jsonl: a kill loses what was under way, and nothing else.

Each line is appended and synced: an answer with its `key` (who was asked what), or the reward that a grader gave it.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from luthier.cli.display import hint
from luthier.core.errors import Conflict
from luthier.core.json import JsonObject


@dataclass(frozen=True)
class Said:
    """One answer. `fault` is why nobody should learn it, empty where there is no reason."""

    key: str
    message: JsonObject
    fault: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    asked_at: int


class Answers:
    """The answers that belong to one output file, held by one process at a time."""

    def __init__(self, output: Path) -> None:
        self._path = output.with_name(f"{output.stem}.answers.jsonl")
        if output.exists() and not self._path.exists():
            raise Conflict(f"{output} exists, and is not of `luthier distil`; name another --output")
        self.said: dict[str, Said] = {}
        self.rewards: dict[tuple[str, str], float] = {}  # by the answer's key and the grader's digest

    def __enter__(self) -> Self:
        self._file = self._path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise Conflict(f"{self._path}: another `luthier distil` is writing it; wait for it, or end it") from error
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if line.endswith(b"\n"):  # else a kill cut it short
                self._take(json.loads(line))
                whole += len(line)
        self._file.truncate(whole)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None and self.said:
            hint(f"{len(self.said)} answers are kept in {self._path}; the same command goes on from there")

    def keep(self, said: Said) -> None:
        """Remember an answer for good."""
        self._append(asdict(said))

    def keep_reward(self, key: str, grader: str, reward: float) -> None:
        """Remember what a grader gave an answer."""
        self._append({"key": key, "grader": grader, "reward": reward})

    def _append(self, entry: JsonObject) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(entry)

    def _take(self, entry: JsonObject) -> None:
        if "grader" in entry:
            self.rewards[str(entry["key"]), str(entry["grader"])] = float(str(entry["reward"]))
        else:
            said = Said(**entry)  # type: ignore[arg-type]  # our own line
            self.said[said.key] = said
