"""Secrets at rest: encrypted in their rows (Fernet: AES-128-CBC and HMAC-SHA-256) by keys that lie beside the database.

The key file has a key a line, the newest first; the newest encrypts, all decrypt. After a rotation the one before stays
until the next, for a server that was just about to write.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from luthier.core.errors import Unavailable
from luthier.core.run import write_atomic


class Secrets:
    """Reads its file anew whenever that has changed, so that a rotation needs no restart. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._keys: MultiFernet | None = None

    def hide(self, secret: str) -> str:
        """The secret, encrypted. Makes the first key."""
        if not self._path.exists():
            self._make()
        return self._current().encrypt(secret.encode()).decode()

    def show(self, hidden: str) -> str:
        """What was hidden. Errors: `Unavailable` when no key of the file opens it."""
        try:
            return self._current().decrypt(hidden.encode()).decode()
        except (InvalidToken, FileNotFoundError) as error:
            raise Unavailable(
                f"no key in {self._path} opens a stored secret; bring the file back from a backup, or make the "
                "webhook endpoints anew"
            ) from error

    def add_key(self) -> None:
        """Encrypt by a new key from now on, and read by all that there are."""
        known = self._path.read_text().split() if self._path.exists() else []
        self._write([Fernet.generate_key().decode(), *known])

    def drop_old_keys(self) -> None:
        """Keep the newest and the one before, once all is encrypted by the newest."""
        self._write(self._path.read_text().split()[:2])

    def _make(self) -> None:
        """The first key; of several processes that make one, the first wins."""
        candidate = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        write_atomic(candidate, Fernet.generate_key(), mode=0o600)
        with contextlib.suppress(FileExistsError):
            os.link(candidate, self._path)
        candidate.unlink()

    def _write(self, keys: list[str]) -> None:
        write_atomic(self._path, "\n".join(keys).encode(), mode=0o600)

    def _current(self) -> MultiFernet:
        found = os.stat(self._path)
        if self._keys is None or self._read_at != (found.st_mtime_ns, found.st_ino):
            self._keys = MultiFernet([Fernet(line) for line in self._path.read_text().split()])
            self._read_at = (found.st_mtime_ns, found.st_ino)
        return self._keys
