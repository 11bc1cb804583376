"""Reading of the model files written by `saving`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ..data.stored import Stored
from ..terms.baseline import Baseline
from ..terms.headers import first_problem, parsed
from ..terms.protocol import Term
from ..terms.registry import TERM_TYPES
from ..uncertainty.calibration import Calibration
from ..uncertainty.noises import Noises
from .glue_header import GlueHeader
from .headers import ModelHeader, checked_config
from .report import FitReport
from .saving import FORMAT, TARGETS_ONLY
from .sparse_gp import SparseGP
from .target_files import read_targets
from .tensors import TargetModels


def load_any(file: str | Path) -> SparseGP | TargetModels:
    """As `load_model`, and targets that were fitted without a potential."""
    with FORMAT.reading(file) as stored:
        return read_targets(stored) if stored.attribute("header") == TARGETS_ONLY else _read(stored)


def load_model(file: str | Path) -> SparseGP:
    """Read a model.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, changed, not a model, written by a newer version of mlpot, or contains an invalid entry;
        the message names the first one and its value.
    """
    with FORMAT.reading(file) as stored:
        return _read(stored)


def _read(stored: Stored) -> SparseGP:
    """Read a model, checking all arrays against the header and the header itself, so that no error can occur later."""
    header = parsed(ModelHeader, stored.attribute("header"))
    species = header.species
    terms = tuple(TERM_TYPES[term.type].term.read(term, stored, f"terms/{k}") for k, term in enumerate(header.terms))
    n_sparse = sum(term.n_sparse for term in terms)
    config = None if header.config is None else checked_config(header.config)
    if config is not None and config.extrapolate:
        _check_extrapolates(terms)
    return SparseGP(
        species=species,
        terms=terms,
        weights=stored.floats("weights", (n_sparse,)),
        baseline=_baseline(header, stored),
        factor=_factor(stored, n_sparse) if header.has_factor else None,
        jitter=header.jitter,
        config=config,
        report=None if header.report is None else _report(header.report),
        provenance=header.provenance,
        regularisation=header.regularisation,
        calibration=Calibration(**header.calibration.model_dump(exclude={"force_floor"})),
        noises=_noises(header),
        targets=read_targets(stored),
    )


def _check_extrapolates(terms: tuple[Term, ...]) -> None:
    mixing = [term.mixes_elements for term in terms]
    if True not in mixing:
        raise ValueError("config.extrapolate = True: no term mixes elements")
    if False in mixing:
        raise ValueError("config.extrapolate = True: a many-body term does not mix elements")


def _report(values: dict[str, Any]) -> FitReport:
    try:
        return TypeAdapter(FitReport).validate_python(FitReport.from_dict(values).to_dict())
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"header: report: {said}") from error


def _noises(header: ModelHeader) -> Noises:
    """Noises of the header; in files of format 3 and older they are part of the calibration."""
    if header.noises is not None:
        return Noises(**header.noises.model_dump())
    old = header.calibration
    floor = old.force_floor / old.force_scale if old.force_floor else 0.0
    return Noises(forces=dict.fromkeys(header.species, floor) if floor else {})


def _baseline(header: ModelHeader, stored: Stored) -> Baseline:
    values = header.baseline
    glue = None
    if "glue" in stored:
        glue = parsed(GlueHeader, stored.text("glue"), "glue").glue()
        if not set(header.species) <= set(glue.species):
            raise ValueError(f"glue: species {list(glue.species)} lack some of the model, {list(header.species)}")
    return Baseline(dict(values.isolated_atom_energies), values.repulsion, glue, dict(values.lone_atoms))


def _factor(stored: Stored, n_sparse: int) -> np.ndarray:
    upper = _unpacked(stored.floats("factor", (n_sparse * (n_sparse + 1) // 2,)), n_sparse)
    if not np.all(np.diag(upper)):
        raise ValueError("factor: has a zero on its diagonal")
    return upper


def _unpacked(values: np.ndarray, size: int) -> np.ndarray:
    upper = np.zeros((size, size), order="F")
    upper[np.triu_indices(size)] = values
    return upper
