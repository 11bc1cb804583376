"""Writing of model files: self-contained HDF5, replaced atomically."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..data.h5 import Format
from ..errors import ConfigError
from .parameters import Parameters
from .target_files import write_targets
from .tensors import TargetModels

FORMAT = Format("mlpot-model", 6, "model", "`mlpot fit` or `mlpot learn`", "restore it or fit the model again")
TARGETS_ONLY = "targets"
"""Header of a file without a potential."""


def save_targets(models: TargetModels, file: str | Path) -> None:
    """Write targets without a potential, atomically; errors as of `save_model`."""
    with FORMAT.writing(file) as h5:
        h5.attrs["header"] = TARGETS_ONLY
        write_targets(models, h5)


def save_model(model: Parameters, file: str | Path) -> None:
    """Write a model atomically: a reader sees either the old file or the complete new one.

    Raises
    ------
    ModelFileError
        If the folder is missing, read-only or full; an older file is left unchanged.
    """
    with FORMAT.writing(file) as h5:
        h5.attrs["header"] = json.dumps(_header(model))
        h5["weights"] = model.weights
        if model.factor is not None:
            h5["factor"] = _packed(model.factor)
        if model.baseline.glue is not None:
            h5["glue"] = json.dumps(model.baseline.glue.to_dict())  # tables are too long for an attribute
        write_targets(model.targets, h5)
        for name, array in ({} if model.witnesses is None else model.witnesses.arrays()).items():
            h5[name] = array
        for k, term in enumerate(model.terms):
            for name, array in term.arrays().items():
                h5[f"terms/{k}/{name}"] = array


def _header(model: Parameters) -> dict[str, Any]:
    if model.stand_ins:
        names = [chemical_symbols[z] for z in model.stand_ins]
        raise ConfigError(f"this model is extrapolated to {names}; save the original model, from which it can be recreated")
    return {
        "species": list(model.species),
        "terms": [term.description() for term in model.terms],
        "baseline": {
            "isolated_atom_energies": model.baseline.isolated_atom_energies,
            "repulsion": model.baseline.repulsion,
            "lone_atoms": model.baseline.lone_atoms,
        },
        "has_factor": model.factor is not None,
        "jitter": model.jitter,
        "regularisation": model.regularisation,
        "calibration": asdict(model.calibration),
        "noises": asdict(model.noises),
        "config": None if model.config is None else model.config.model_dump(mode="json"),
        "report": None if model.report is None else model.report.to_dict(),
        "provenance": model.provenance,
    }


def _packed(upper: np.ndarray) -> np.ndarray:
    """The upper triangle as one vector, which halves the largest array of the file."""
    return upper[np.triu_indices(len(upper))]
