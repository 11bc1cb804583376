"""Optional packages for labels on other machines."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import ConfigError

PACKAGES = {"dask": "distributed", "distributed": "distributed", "dask_jobqueue": "dask-jobqueue", "cryptography": "cryptography"}


def imported_package(module: str, choice: str) -> ModuleType:
    """Import a module; ConfigError naming the package to install for `labeller.executor` = choice."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"labeller.executor = {choice!r}: {module} cannot be imported ({error}); "
            f"pip install 'mlpot[cluster]' or pip install {PACKAGES[module.partition('.')[0]]}"
        ) from error
