"""What a process may take of its machine's memory."""

import pytest

from luthier.core import machine


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """Writes limits of cgroups, and in which of them this process is."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, limit in files.items():
            file = tmp_path / "cgroup" / name.replace("__", "/").replace("_max", ".max")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n")

    return write


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("0::/system/luthier\n", 2000),
        ("4:memory:/else\n0::/system/luthier/child\n", 2000),
        ("0::/system/other\n", 3000),
        ("0::/../elsewhere\n", 4000),
        ("0::/\n", 4000),
        ("", 4000),
    ],
)
def test_the_smallest_limit_around_a_process_holds(limits, own, expected):
    limits(own, memory_max=4000, system__memory_max=3000, system__luthier__memory_max=2000)
    assert machine.memory_bytes() == expected


def test_no_limit_is_the_machines_memory(limits, tmp_path):
    limits("0::/system\n", memory_max="max", system__memory_max="max")
    free = machine.memory_bytes()
    assert free > 1 << 20
    (tmp_path / "cgroup/memory").mkdir()
    (tmp_path / "cgroup/memory/memory.limit_in_bytes").write_text("5000\n")  # the first version's
    assert machine.memory_bytes() == 5000
