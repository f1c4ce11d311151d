"""Imports run down the layer list and never up; the server's process never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import luthier

ROOT = Path(luthier.__file__).parent
ALLOWED = {
    "core": set(),
    "data": {"core"},
    "store": {"core"},
    "engines": {"core", "data"},
    "compute": {"core", "data"},
    "domain": {"core", "data", "store", "engines", "compute"},
    "api": {"core", "domain"},
    "cli": {"core"},
    "train": {"core", "data"},
}
# The commands that are no clients: they start or inspect the server itself, move its files, or look at a file without;
# and `distil`, which asks a server and then looks at its file.
DOORS = {
    "cli/serve.py": {"api", "domain", "store"},
    "cli/taking.py": {"domain"},
    "cli/doctor.py": {"api", "domain", "store"},
    "cli/data.py": {"data"},
    "cli/distil_sifting.py": {"data"},
    "cli/advise.py": {"data"},
}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "luthier" else [node.module or ""]
        found |= {n.split(".")[1] for n in names if n.startswith("luthier.")}
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_rooms_below(room):
    for file in sorted((ROOT / room).rglob("*.py")):
        extra = DOORS.get(file.relative_to(ROOT).as_posix(), set())
        assert imports(file) - {room} <= ALLOWED[room] | extra, file


def test_every_folder_is_a_known_room():
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("package", ["torch", "transformers", "sqlalchemy"])
def test_only_their_rooms_import_heavy_packages(package):
    home = {"torch": "train", "transformers": "train", "sqlalchemy": "store"}[package]
    for file in ROOT.rglob("*.py"):
        if file.relative_to(ROOT).parts[0] == home:
            continue
        tree = ast.parse(file.read_text())
        names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not [n for n in names if n.split(".")[0] == package], file


def test_a_server_starts_without_what_only_some_work_needs():
    heavy = ("torch", "transformers", "gguf", "tokenizers", "matplotlib", "rapidfuzz", "numpy", "alembic")
    check = f"import sys, luthier.api.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
