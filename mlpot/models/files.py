"""Model files: HDF5, self-contained, written beside the old one and renamed."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase.data import chemical_symbols
from pydantic import TypeAdapter, ValidationError

from ..data.h5 import Format
from ..data.stored import Stored
from ..descriptors.density import SoapDescriptor
from ..descriptors.radial_basis import RADIAL_BASES
from ..errors import ConfigError
from ..terms.baseline import Baseline
from ..terms.channel_tables import read_tables, tables_of
from ..terms.pair import PairTerm
from ..terms.protocol import Term
from ..terms.soap import SoapTerm
from ..terms.three_body import ThreeBodyTerm
from ..uncertainty.calibration import Calibration
from ..uncertainty.noises import Noises
from .glue_header import GlueHeader
from .headers import (
    LONGEST_COORDINATE,
    ModelHeader,
    PairHeader,
    TermHeader,
    ThreeBodyHeader,
    check_lengths,
    checked_config,
    first_problem,
    parsed,
)
from .report import FitReport
from .sparse_gp import SparseGP

FORMAT = Format("mlpot-model", 5, "model", "`mlpot fit` or `mlpot learn`", "restore it or fit the model again")
ROUNDING = 1e-6
"""Of features."""
BASIS_NAMES: dict[type, str] = {kind: name for name, kind in RADIAL_BASES.items()}


def save_model(model: SparseGP, file: str | Path) -> None:
    """Write a model; a reader sees the old file or the new one, never a part.

    Raises
    ------
    ModelFileError
        If the folder is missing, read-only or full; an older file is left as it was.
    """
    with FORMAT.writing(file) as h5:
        h5.attrs["header"] = json.dumps(_header(model))
        h5["weights"] = model.weights
        if model.factor is not None:
            h5["factor"] = _packed(model.factor)
        if model.baseline.glue is not None:
            h5["glue"] = json.dumps(model.baseline.glue.to_dict())  # tables: too long for an attribute
        for k, term in enumerate(model.terms):
            for n, array in enumerate(_arrays(term)):
                h5[f"terms/{k}/sparse/{n}"] = array
            if isinstance(term, SoapTerm):
                for name, array in tables_of(term.descriptor).items():
                    h5[f"terms/{k}/{name}"] = array


def load_model(file: str | Path) -> SparseGP:
    """Read a model.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, changed, not a model, written by a newer version of mlpot, or holds anything that
        a model cannot: the first such thing is named with its value.
    """
    with FORMAT.reading(file) as stored:
        return _read(stored)


def _read(stored: Stored) -> SparseGP:
    """Check all arrays against the header, and the header against what can be computed, so that nothing fails later."""
    header = parsed(ModelHeader, stored.attribute("header"))
    species = header.species
    terms = tuple(_term(term, stored, f"terms/{k}") for k, term in enumerate(header.terms))
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
    )


def _check_extrapolates(terms: tuple[Term, ...]) -> None:
    if not any(isinstance(term, SoapTerm) and term.descriptor.reduction is not None for term in terms):
        raise ValueError("config.extrapolate = True: no term mixes elements")
    if any(isinstance(term, SoapTerm) and term.descriptor.reduction is None for term in terms):
        raise ValueError("config.extrapolate = True: a many-body term does not mix elements")


def _report(values: dict[str, Any]) -> FitReport:
    try:
        return TypeAdapter(FitReport).validate_python(FitReport.from_dict(values).to_dict())
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"header: report: {said}") from error


def _noises(header: ModelHeader) -> Noises:
    """What the file says, or what a file of format 3 and older says in its calibration."""
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


def _header(model: SparseGP) -> dict[str, Any]:
    if model.stand_ins:
        names = [chemical_symbols[z] for z in model.stand_ins]
        raise ConfigError(f"this model guesses {names}; save the one that it was made of, which makes it again")
    return {
        "species": list(model.species),
        "terms": [{**_description(term), "n_arrays": len(_arrays(term))} for term in model.terms],
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


PAIR_SCALARS = ("species", "cutoff", "cutoff_width", "length_scale", "energy_scales", "contacts", "repulsion_length")
THREE_BODY_SCALARS = ("species", "centre", "neighbours", "cutoff", "cutoff_width", "energy_scale")
DESCRIPTOR_SCALARS = ("species", "central_weight", "central_reference_all_species", "constant")


def _description(term: Term) -> dict[str, Any]:
    """Scalars of a term; its arrays are kept apart."""
    if isinstance(term, PairTerm):
        return {"type": "pair", **{name: getattr(term, name) for name in PAIR_SCALARS}}
    if isinstance(term, ThreeBodyTerm):
        return {"type": "three_body", **{name: getattr(term, name) for name in THREE_BODY_SCALARS}}
    if not isinstance(term, SoapTerm):
        raise TypeError(f"{type(term).__name__} is not a term that a model file can hold")
    basis = {"type": BASIS_NAMES[type(term.descriptor.basis)], **_fields(term.descriptor.basis)}
    return {
        "type": "soap",
        "descriptor": {**{name: getattr(term.descriptor, name) for name in DESCRIPTOR_SCALARS}, "basis": basis},
        "zeta": term.zeta,
        "energy_scales": term.energy_scales,
    }


def _fields(record: Any) -> dict[str, Any]:
    """Fields of a dataclass by name."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _arrays(term: Term) -> tuple[np.ndarray, ...]:
    if isinstance(term, ThreeBodyTerm):
        return term.length_scales, term.sparse_coordinates, term.sparse_cutoffs
    return term.sparse_radii if isinstance(term, PairTerm) else cast(SoapTerm, term).sparse_features


def _term(header: TermHeader, stored: Stored, place: str) -> Term:
    sparse = f"{place}/sparse"
    if isinstance(header, ThreeBodyHeader):
        return _three_body_term(header, stored, sparse)
    values = header.model_dump(exclude={"type", "n_arrays", "energy_scale", "descriptor"})
    values["energy_scales"] = header.energy_scale if header.energy_scales is None else header.energy_scales
    if isinstance(header, PairHeader):
        radii = [stored.floats(f"{sparse}/{n}", (None,), 0.0, LONGEST_COORDINATE) for n in range(header.n_arrays)]
        return PairTerm(**values, sparse_radii=tuple(radii))
    own = header.descriptor
    options = own.basis.model_dump()
    basis = RADIAL_BASES[options.pop("type")](**options)
    tables = read_tables(stored, place, own.species, basis.n_max, basis.l_max)
    descriptor = SoapDescriptor(**own.model_dump(exclude={"basis"}), basis=basis, **tables)
    shape = (None, descriptor.n_features)
    most = max(1.0, own.constant) + ROUNDING  # features are of norm 1, but for the constant
    points = tuple(stored.floats(f"{sparse}/{n}", shape, -most, most) for n in range(header.n_arrays))
    if descriptor.table.knots.size and not np.all(np.isfinite(descriptor.table.knots)):
        raise ValueError(f"{place}: radial functions of these parameters are not finite")
    return SoapTerm(descriptor, values["zeta"], values["energy_scales"], points)


def _three_body_term(header: ThreeBodyHeader, stored: Stored, sparse: str) -> ThreeBodyTerm:
    lengths = stored.positive(f"{sparse}/0", (3,))
    check_lengths(header.cutoff, **{f"{sparse}/0, {axis}": lengths[k] for k, axis in ((0, "first"), (2, "third"))})
    coordinates = stored.floats(f"{sparse}/1", (None, 3), -LONGEST_COORDINATE**2, LONGEST_COORDINATE**2)
    cutoffs = stored.floats(f"{sparse}/2", (len(coordinates),), 0.0, 1.0)
    values = header.model_dump(exclude={"type", "n_arrays"})
    return ThreeBodyTerm(**values, length_scales=lengths, sparse_coordinates=coordinates, sparse_cutoffs=cutoffs)


def _factor(stored: Stored, n_sparse: int) -> np.ndarray:
    upper = _unpacked(stored.floats("factor", (n_sparse * (n_sparse + 1) // 2,)), n_sparse)
    if not np.all(np.diag(upper)):
        raise ValueError("factor: has a zero on its diagonal")
    return upper


def _packed(upper: np.ndarray) -> np.ndarray:
    """The upper triangle as one vector: half of the largest part of the file."""
    return upper[np.triu_indices(len(upper))]


def _unpacked(values: np.ndarray, size: int) -> np.ndarray:
    upper = np.zeros((size, size), order="F")
    upper[np.triu_indices(size)] = values
    return upper
