"""Reading of the model files written by `saving`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ..data.stored import Stored
from ..errors import BaselineError, MlpotError, ModelFileError, quoted
from ..terms.baseline import Baseline
from ..terms.calculator_baseline import CalculatorBaseline, untrusted
from ..terms.headers import first_problem, parsed
from ..terms.protocol import Term
from ..terms.registry import TERM_TYPES
from ..terms.witnesses import Witnesses
from ..uncertainty.calibration import Calibration
from ..uncertainty.noises import Noises
from .glue_header import GlueHeader
from .headers import ModelHeader, checked_config
from .report import FitReport
from .saving import FORMAT, TARGETS_ONLY
from .sparse_gp import SparseGP
from .target_files import read_targets
from .tensors import TargetModels

REPORT = TypeAdapter(FitReport)
"""Made once: making it takes longer than to read a small model."""


def load_any(file: str | Path, trust_baseline: bool = False) -> SparseGP | TargetModels:
    """As `load_model`, and targets that were fitted without a potential."""
    with FORMAT.reading(file) as stored:
        if stored.attribute("header") == TARGETS_ONLY:
            return read_targets(stored, trust_baseline)
        model = _read(stored, trust_baseline)
    prepare(model, file)
    return model


def load_model(file: str | Path, trust_baseline: bool = False) -> SparseGP:
    """Read a model.

    Parameters
    ----------
    file : path
    trust_baseline : bool
        Whether the calculator that the file puts beneath the model (see [baseline]) may be imported and called. Not needed for those
        of `settings.baseline.KNOWN_CALCULATORS`, which run nothing else.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, changed, not a model, written by a newer version of mlpot, or contains an invalid entry;
        the message names the first one and its value. Also if it needs a calculator that is not trusted.
    """
    model = inspect_model(file, trust_baseline)
    if model.beneath is not None and not model.beneath.trusted:
        raise ModelFileError(
            f"{file}: {untrusted(model.beneath.settings)}: pass trust_baseline=True, or --trust-baseline on the command line"
        )
    prepare(model, file)
    return model


def inspect_model(file: str | Path, trust_baseline: bool = False) -> SparseGP:
    """As `load_model`, to look at a model: one with a calculator that is not trusted is read; see `prepare` before it predicts."""
    if not isinstance(file, str | PathLike):
        raise ModelFileError(f"{quoted(file)}: is no path of a model file; give one that `mlpot fit` or `mlpot learn` has written")
    with FORMAT.reading(file) as stored:
        return _read(stored, trust_baseline)


def prepare(model: SparseGP, file: str | Path) -> None:
    """Make the tables of a model that was read from a file now, rather than at its first prediction; see `blamed`."""
    with blamed(file):
        model.compiled.prepare()


@contextmanager
def blamed(file: str | Path) -> Iterator[None]:
    """ModelFileError for the file of a model or a fit of which no predictions can be made."""
    try:
        yield
    except BaselineError:  # it tells what is wrong with a calculator, not with the file
        raise
    except (MlpotError, np.linalg.LinAlgError) as error:
        raise ModelFileError(f"{file}: no predictions can be made of it: {error}; restore the file") from error


def _read(stored: Stored, trust_baseline: bool) -> SparseGP:
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
        targets=read_targets(stored, trust_baseline),
        beneath=None if config is None or config.baseline is None else CalculatorBaseline(config.baseline, trust_baseline),
        witnesses=Witnesses.read(stored, species),
    )


def _check_extrapolates(terms: tuple[Term, ...]) -> None:
    mixing = [term.mixes_elements for term in terms]
    if True not in mixing:
        raise ValueError("config.extrapolate = True: no term mixes elements")
    if False in mixing:
        raise ValueError("config.extrapolate = True: a many-body term does not mix elements")


def _report(values: dict[str, Any]) -> FitReport:
    try:
        return REPORT.validate_python(FitReport.from_dict(values).to_dict())
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
