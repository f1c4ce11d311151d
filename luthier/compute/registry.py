"""Computes by the name that the settings use. What is built in registers as any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from luthier.compute.base import Compute
from luthier.compute.local import LocalCompute
from luthier.core.errors import InvalidRequest

FACTORIES: Final[dict[str, Callable[[], Compute]]] = {"local": LocalCompute}


def make_compute(name: str, factories: Mapping[str, Callable[[], Compute]] = FACTORIES) -> Compute:
    """The compute of a name. Errors: `InvalidRequest` listing the known ones."""
    if name not in factories:
        raise InvalidRequest(f'setting compute: there is no "{name}"; known are {", ".join(sorted(factories))}')
    return factories[name]()
