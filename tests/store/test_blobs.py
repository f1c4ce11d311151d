import hashlib
import multiprocessing
import os
import signal

import pytest

from luthier.core.errors import NotFound, Unavailable
from luthier.store.blobs import Blobs

CONTENT = b"0123456789" * 500_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def blobs(tmp_path):
    return Blobs((tmp_path / "blobs with spaces").as_uri())


def put(blobs, key, content=CONTENT):
    with blobs.writer(key) as writer:
        for start in range(0, len(content), 70_000):
            writer.write(content[start : start + 70_000])
        return writer.close()


def test_what_is_written_is_read(blobs, tmp_path):
    stored = put(blobs, "file-1")
    assert (stored.size_bytes, stored.sha256) == (len(CONTENT), SHA256)
    assert b"".join(blobs.read("file-1", SHA256)) == CONTENT
    path = tmp_path / "blobs with spaces" / "file-1"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_empty_blob(blobs):
    stored = put(blobs, "empty", b"")
    assert stored.size_bytes == 0
    assert b"".join(blobs.read("empty", stored.sha256)) == b""


def test_nothing_appears_before_close(blobs, tmp_path):
    with blobs.writer("file-1") as writer:
        writer.write(CONTENT)
        with pytest.raises(NotFound):
            blobs.read("file-1", SHA256)
    assert list((tmp_path / "blobs with spaces").iterdir()) == []
    with pytest.raises(ValueError, match="after it was closed"):
        writer.write(b"more")


def _begin_and_die(url):
    writer = Blobs(url).writer("file-1")
    writer.write(CONTENT)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writers_leavings_go_after_a_day(blobs, tmp_path):
    folder = tmp_path / "blobs with spaces"
    process = multiprocessing.get_context("spawn").Process(target=_begin_and_die, args=(folder.as_uri(),))
    process.start()
    process.join()
    put(blobs, "file-2")
    (left,) = [path for path in folder.iterdir() if path.name != "file-2"]
    blobs.remove_stale()
    assert left.exists()
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    blobs.remove_stale()
    assert [path.name for path in folder.iterdir()] == ["file-2"]
    with pytest.raises(NotFound):
        blobs.read("file-1", SHA256)


def test_deleting_twice_is_deleting_once(blobs):
    put(blobs, "file-1")
    blobs.delete("file-1")
    blobs.delete("file-1")
    with pytest.raises(NotFound):
        blobs.read("file-1", SHA256)


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"x" + CONTENT[1:], b""])
def test_damage_is_noticed_before_the_end(blobs, tmp_path, damaged):
    put(blobs, "file-1")
    (tmp_path / "blobs with spaces" / "file-1").write_bytes(damaged)
    with pytest.raises(Unavailable, match="not those that were written"):
        list(blobs.read("file-1", SHA256))


def test_a_store_that_fails_says_what_to_look_at(blobs, tmp_path):
    (tmp_path / "blobs with spaces").rmdir()
    (tmp_path / "blobs with spaces").write_text("no folder")
    with pytest.raises(Unavailable, match="blob store failed at file-1: .*; free disk space or check its settings"):
        put(blobs, "file-1")
