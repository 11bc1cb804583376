"""Import paths that users write: "package.module.name", or "package.module:name"."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any


def split_path(path: str) -> tuple[str, str]:
    """Module and name of an import path."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    return module, name


def imported(path: str) -> Any:
    """The object at an import path; ImportError or AttributeError if there is none."""
    module, name = split_path(path)
    return attrgetter(name)(import_module(module))
