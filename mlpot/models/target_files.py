"""Fitted targets in model files: one text with all headers, and arrays below "target_0", "target_1", ..."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Annotated, Any, Literal

import h5py
import numpy as np
from pydantic import Field, model_validator

from ..data.stored import Stored
from ..data.target_labels import Origin
from ..data.targets import Target
from ..descriptors.couplings import PARTS
from ..descriptors.covariants import Covariants
from ..descriptors.density import SoapDescriptor
from ..descriptors.logarithmic_basis import PARAMETERS, LogarithmicBasis, target_basis
from ..descriptors.radial_basis import RadialBasis
from ..settings.baseline import BaselineSettings
from ..terms.calculator_baseline import CalculatorBaseline
from ..terms.channel_tables import read_tables, tables_of
from ..terms.covariant import CovariantTerm, Directions, most_directions
from ..terms.headers import (
    Element,
    Header,
    Length,
    NotNegative,
    Number,
    Reach,
    Species,
    check_lengths,
    parsed,
)
from .beneath import TargetBeneath
from .tensors import SphericalPart, TargetErrors, TargetModel, TargetModels

MOST_TERMS = 20
HEADERS = "targets"
"""Name of the data set with the headers."""


class CovariantHeader(Header):
    """Header of a `CovariantTerm`."""

    n_max: Annotated[int, Field(ge=1, le=32)]
    l_max: Annotated[int, Field(ge=0, le=8)]
    cutoff: Reach
    cutoff_width: Length
    radial_basis: Literal["gap", "logarithmic"] = "gap"
    atom_sigma: Length | None = None
    angular_width: Length | None = None
    decay: NotNegative | None = None
    own_weight: NotNegative | None = None
    zeta: Annotated[int, Field(ge=1, le=8)]

    @model_validator(mode="after")
    def _can_be_tabulated(self) -> CovariantHeader:
        if self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width}: exceeds the cutoff")
        missing = [name for name in PARAMETERS[self.radial_basis] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{missing[0]}: missing")
        if self.radial_basis == "logarithmic" and self.n_max < 2:
            raise ValueError(f"n_max = {self.n_max}: logarithmic functions need at least 2")
        if self.atom_sigma is not None:
            check_lengths(self.cutoff, atom_sigma=self.atom_sigma)
        return self


class PartHeader(Header):
    """Header of a `SphericalPart`."""

    noise: NotNegative
    calibration: NotNegative
    beneath: dict[Element, Number] | None = None
    beneath_scale: NotNegative = 0.0
    terms: Annotated[tuple[CovariantHeader, ...], Field(min_length=1, max_length=MOST_TERMS)]


class ErrorsHeader(Header):
    """Header of `TargetErrors`; the key of a part is its degree."""

    n: Annotated[int, Field(ge=0)]
    mae: NotNegative
    rmse: NotNegative
    std: NotNegative
    parts: dict[str, Number]
    coverage: NotNegative | None


class TargetHeader(Header):
    """Header of a `TargetModel`."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    rank: Annotated[int, Field(ge=0, le=2)]
    per_atom: bool
    per_volume: bool = False
    unit: str
    species: Species
    means: dict[Element, Number]
    key: str
    label_unit: str
    place: str | tuple[Number, Number, Number] | None
    charge: Number | None
    parts: dict[Annotated[int, Field(ge=0, le=2)], PartHeader]
    left_out: ErrorsHeader | None
    training: ErrorsHeader | None
    notes: tuple[str, ...]
    baseline: BaselineSettings | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> TargetHeader:
        if set(self.parts) != set(PARTS[self.rank]):
            raise ValueError(f"parts: degrees {sorted(self.parts)}: a target of rank {self.rank} has {sorted(PARTS[self.rank])}")
        if 0 in self.parts and not set(self.species) <= set(self.means):
            raise ValueError("means: one is missing for an element")
        if any((part.beneath is None) != (self.baseline is None) for part in self.parts.values()):
            raise ValueError("parts: with a baseline all have beneath, without one none")
        if self.baseline is not None and self.per_atom:
            raise ValueError("baseline: is for targets of whole structures")
        if isinstance(self.place, str) and self.place not in ("center_of_mass", "center_of_charge"):
            raise ValueError(f"place = {self.place!r}: is no origin")
        return self


class TargetsHeader(Header):
    """All targets of a file."""

    targets: Annotated[tuple[TargetHeader, ...], Field(max_length=100)]


def write_targets(models: TargetModels, h5: h5py.File) -> None:
    """Add targets to a model file."""
    if not models:
        return
    h5[HEADERS] = json.dumps({"targets": [_header(model) for model in models.values()]})
    for k, model in enumerate(models.values()):
        for degree, part in model.parts.items():
            place = f"target_{k}/part_{degree}"
            h5[f"{place}/weights"], h5[f"{place}/scales"], h5[f"{place}/known"] = part.weights, part.scales, part.known
            for t, term in enumerate(part.terms):
                for name, array in (*_arrays(term), *tables_of(term.descriptor).items()):
                    h5[f"target_{k}/term_{degree}_{t}/{name}"] = array


def _arrays(term: CovariantTerm) -> list[tuple[str, Any]]:
    return [
        (f"{name}_{number}", value)
        for number, own in zip(term.descriptor.species, term.directions, strict=True)
        for name, value in (("p", own.p), ("q", own.q), ("size", np.array([own.size])))
    ]


def _header(model: TargetModel) -> dict[str, Any]:
    return {
        "name": model.target.name, "rank": model.target.rank, "per_atom": model.target.per_atom,
        "per_volume": model.target.per_volume, "unit": model.target.unit,
        "species": list(model.species), "means": dict(model.means),
        "key": model.key, "label_unit": model.label_unit, "place": model.origin.place, "charge": model.origin.charge,
        "parts": {degree: _part_header(part) for degree, part in model.parts.items()},
        "left_out": None if model.left_out is None else asdict(model.left_out),
        "training": None if model.training is None else asdict(model.training),
        "notes": list(model.notes),
        **({} if model.beneath is None else {"baseline": model.beneath.calculator.settings.model_dump(mode="json")}),
    }  # fmt: skip


def _part_header(part: SphericalPart) -> dict[str, Any]:
    terms = []
    for term in part.terms:
        basis: Any = term.descriptor.basis
        kind = "logarithmic" if isinstance(basis, LogarithmicBasis) else "gap"
        names = ("n_max", "l_max", "cutoff", "cutoff_width", *PARAMETERS[kind])
        terms.append({"radial_basis": kind, **{name: getattr(basis, name) for name in names}, "zeta": term.zeta})
    own = {} if part.beneath is None else {"beneath": dict(part.beneath), "beneath_scale": part.beneath_scale}
    return {"noise": part.noise, "calibration": part.calibration, **own, "terms": terms}


def read_targets(stored: Stored, trust_baseline: bool) -> TargetModels:
    """The targets of a model file, none in files without any; calculators that are not trusted are refused when they are needed."""
    if HEADERS not in stored:
        return TargetModels()
    headers = parsed(TargetsHeader, stored.text(HEADERS), HEADERS)
    found = (_read(header, stored, f"target_{k}", trust_baseline) for k, header in enumerate(headers.targets))
    return TargetModels({model.target.name: model for model in found})


def _read(header: TargetHeader, stored: Stored, place: str, trust_baseline: bool) -> TargetModel:
    errors = [None if e is None else TargetErrors(**e.model_dump()) for e in (header.left_out, header.training)]
    target = Target(header.name, header.rank, header.per_atom, header.unit, per_volume=header.per_volume)
    origin, beneath = Origin(header.place, header.charge), None
    if header.baseline is not None:
        beneath = TargetBeneath(CalculatorBaseline(header.baseline, trust_baseline), target, header.label_unit, origin)
    return TargetModel(
        target,
        {degree: _read_part(part, header.species, degree, stored, place) for degree, part in header.parts.items()},
        dict(header.means), header.key, header.label_unit, origin, errors[0], errors[1], header.notes, beneath,
    )  # fmt: skip


def _read_part(header: PartHeader, species: tuple[int, ...], degree: int, stored: Stored, place: str) -> SphericalPart:
    terms = tuple(
        _read_term(own, species, degree, stored, f"{place}/term_{degree}_{t}") for t, own in enumerate(header.terms)
    )
    n, own = sum(sum(term.sizes) for term in terms) + (header.beneath is not None), f"{place}/part_{degree}"
    scales = stored.positive(f"{own}/scales", (len(terms), len(species)))
    known = stored.floats(f"{own}/known", (n, None))
    weights = stored.floats(f"{own}/weights", (n,))
    beneath = None if header.beneath is None else dict(header.beneath)
    return SphericalPart(terms, weights, known, scales, header.noise, header.calibration, beneath, header.beneath_scale)


def _basis(header: CovariantHeader) -> RadialBasis:
    common = header.n_max, header.l_max, header.cutoff, header.cutoff_width
    return target_basis(header.radial_basis, common, [getattr(header, name) for name in PARAMETERS[header.radial_basis]])


@lru_cache(maxsize=32)
def _plain_density(species: tuple[int, ...], header: CovariantHeader) -> SoapDescriptor:
    """The same object for equal headers, so that it is expanded once for several targets."""
    return SoapDescriptor(species, _basis(header))


def _read_term(header: CovariantHeader, species: tuple[int, ...], degree: int, stored: Stored, place: str) -> CovariantTerm:
    tables = read_tables(stored, place, species, header.n_max, header.l_max)
    descriptor = SoapDescriptor(species, _basis(header), **tables) if tables else _plain_density(species, header)
    n_p, n_q = Covariants(descriptor, 0).n_features, Covariants(descriptor, degree).n_features
    directions = []
    for number in species:
        p = stored.floats(f"{place}/p_{number}", (n_p, None))
        if p.shape[1] > most_directions(p.shape[1], header.zeta):
            raise ValueError(f"{place}/p_{number}: {p.shape[1]} directions are too many for zeta = {header.zeta}")
        q = stored.floats(f"{place}/q_{number}", (n_q, None))
        directions.append(Directions(p, q, float(stored.positive(f"{place}/size_{number}", (1,))[0])))
    return CovariantTerm(descriptor, degree, header.zeta, tuple(directions))
