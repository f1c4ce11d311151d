"""Who of those that hold leases lives: each keeps a file of its name, locked until its process ends, however it ends.

So a server that was killed and is back need not wait until its old leases are over.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from luthier.core.ids import worker_name


class Sign:
    """Says that this process works under `name`, until it is taken down or the process ends."""

    def __init__(self, folder: Path) -> None:
        self.name: Final = worker_name()
        self._path = folder / self.name
        folder.mkdir(exist_ok=True, mode=0o700)
        hidden = self._path.with_name(f".{self.name}")
        self._file = hidden.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        hidden.rename(self._path)  # whoever sees it finds it locked

    def take_down(self) -> None:
        """Nothing is held under this name any more."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def killed(folder: Path) -> Iterator[str]:
    """Names of those that ended without a word. Each is told again until its caller asks for the next one."""
    for path in folder.glob("[!.]*"):
        if not _lives(path):
            yield path.name
            path.unlink(missing_ok=True)


def living(folder: Path) -> list[str]:
    """Names of those that are at work."""
    return [path.name for path in folder.glob("[!.]*") if _lives(path)]


def _lives(path: Path) -> bool:
    try:
        with path.open() as sign:
            fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False
