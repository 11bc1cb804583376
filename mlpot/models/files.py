"""Model files: HDF5, self-contained, written beside the old one and renamed."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from ase.data import chemical_symbols

from ..descriptors.density import SoapDescriptor
from ..descriptors.radial_basis import RADIAL_BASES
from ..errors import ConfigError, ModelFileError
from .baseline import Baseline
from .calibration import Calibration
from .descriptor_tables import read_tables, tables_of
from .glue import Glue
from .h5 import Format
from .noises import Noises
from .pair_term import PairTerm
from .report import FitReport
from .settings import FitConfig
from .soap_term import SoapTerm
from .sparse_gp import SparseGP
from .terms import Term
from .three_body_term import ThreeBodyTerm

FORMAT = Format("mlpot-model", 4, "model", "`mlpot fit` or `mlpot learn`", "restore it or fit the model again")
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
        If the file is missing, truncated, not a model, or written by a newer version of mlpot.
    """
    with FORMAT.reading(file) as h5:
        return _read(h5)


def _read(h5: h5py.File) -> SparseGP:
    header = json.loads(h5.attrs["header"])
    weights = h5["weights"][()]
    terms = tuple(
        _term(
            description,
            [h5[f"terms/{k}/sparse/{n}"][()] for n in range(description.pop("n_arrays"))],
            read_tables(h5[f"terms/{k}"]),
        )
        for k, description in enumerate(header["terms"])
    )
    return SparseGP(
        species=tuple(header["species"]),
        terms=terms,
        weights=weights,
        baseline=_baseline(header["baseline"], h5["glue"].asstr()[()] if "glue" in h5 else None),
        factor=_unpacked(h5["factor"][()], len(weights)) if header.get("has_factor", True) else None,
        jitter=header["jitter"],
        config=None if header["config"] is None else FitConfig.model_validate(header["config"]),
        report=None if header["report"] is None else FitReport.from_dict(header["report"]),
        provenance=header["provenance"],
        regularisation=header.get("regularisation", 0.0),
        calibration=_calibration(header.get("calibration", {})),
        noises=_noises(header),
    )


def _calibration(values: dict[str, Any]) -> Calibration:
    of_elements = {int(z): factor for z, factor in values.get("of_elements", {}).items()}
    known = {key: value for key, value in values.items() if key != "force_floor"}
    # files from before the share of the discrepancy: all of it counted, and nothing was calibrated beyond what is there
    whole = {"force_scale": 1.0, "discrepancy_share": 1.0}
    return Calibration(**{**whole, **known, "of_elements": of_elements})


def _noises(header: dict[str, Any]) -> Noises:
    """What the file says, or what a file of format 3 and older says in its calibration."""
    if "noises" in header:
        values = header["noises"]
        forces, sizes = ({int(z): value for z, value in values[name].items()} for name in ("forces", "sizes"))
        return Noises(values["energy"], values["virial"], forces, sizes)
    old = header.get("calibration", {})
    floor = old.get("force_floor", 0.0) / old.get("force_scale", 1.0)
    return Noises(forces=dict.fromkeys(header["species"], floor) if floor else {})


def _baseline(values: dict[str, Any], glue: str | None) -> Baseline:
    return Baseline(
        {int(z): energy for z, energy in values["isolated_atom_energies"].items()},
        values["repulsion"],
        None if glue is None else Glue.from_dict(json.loads(glue)),
    )


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


def _term(description: dict[str, Any], arrays: list[np.ndarray], tables: dict[str, Any]) -> Term:
    values = dict(description)
    kind = values.pop("type")
    if kind in ("pair", "soap") and "energy_scale" in values:  # format 3 and older: one for all blocks
        values["energy_scales"] = values.pop("energy_scale")
    if kind == "pair":
        values |= {name: tuple(values.get(name, ())) for name in ("species", "contacts")}
        return PairTerm(**values, sparse_radii=tuple(arrays))
    if kind == "three_body":
        lengths, coordinates, cutoffs = arrays
        values |= {name: tuple(values[name]) for name in ("species", "neighbours")}
        return ThreeBodyTerm(**values, length_scales=lengths, sparse_coordinates=coordinates, sparse_cutoffs=cutoffs)
    if kind != "soap":
        raise ModelFileError(f"term type {kind!r} is unknown to this version; upgrade mlpot")
    options = dict(values["descriptor"])
    basis_options = dict(options.pop("basis"))
    basis = RADIAL_BASES[basis_options.pop("type")](**basis_options)
    descriptor = SoapDescriptor(**{**options, "species": tuple(options["species"])}, basis=basis, **tables)
    return SoapTerm(descriptor, values["zeta"], values["energy_scales"], tuple(arrays))


def _packed(upper: np.ndarray) -> np.ndarray:
    """The upper triangle as one vector: half of the largest part of the file."""
    return upper[np.triu_indices(len(upper))]


def _unpacked(values: np.ndarray, size: int) -> np.ndarray:
    upper = np.zeros((size, size), order="F")
    upper[np.triu_indices(size)] = values
    return upper
