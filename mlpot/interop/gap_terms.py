"""Coordinates of a GAP potential as terms of a model.

What differs from mlpot's conventions is undone here: QUIP visits every pair of atoms twice (E_i = sum_j u(r_ij), no half), the
order of its elements is free, every SOAP vector ends with covariance_sigma0 even where that is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..descriptors.density import SoapDescriptor
from ..descriptors.radial_basis import GapRadialBasis, cosine_cutoff
from ..errors import MlpotError, ModelFileError, UnsupportedPotentialError, quoted
from ..terms.pair import PairTerm, species_pairs
from ..terms.protocol import Term
from ..terms.soap import SoapTerm
from ..terms.three_body import ThreeBodyTerm
from .gap_coordinates import DOT_PRODUCT, SQUARED_EXPONENTIAL, Coordinate
from .quip_text import Arguments

TRAINING = (
    "n_sparse", "delta", "f0", "zeta", "covariance_type", "sparse_method", "sparse_file", "theta", "theta_uniform",
    "theta_fac", "theta_file", "add_species", "config_type_n_sparse", "mark_sparse_atoms", "print_sparse_index",
    "unique_hash_tolerance", "unique_descriptor_tolerance", "energy_scale",
)  # fmt: skip
"""Keys that told gap_fit how to fit; what matters of them stands in the XML attributes."""
SOAP_KEYS = (
    "cutoff", "cutoff_transition_width", "n_max", "l_max", "atom_sigma", "central_weight",
    "central_reference_all_species", "covariance_sigma0", "basis_error_exponent", "n_Z", "Z", "n_species", "species_Z",
)  # fmt: skip
SOAP_FIXED = {
    "normalise": "T", "average": "F", "diagonal_radial": "F", "cutoff_dexp": "0", "cutoff_scale": "1", "cutoff_rate": "1",
    "nu_R": "2", "nu_S": "2", "Z_mix": "F", "R_mix": "F", "sym_mix": "F", "coupling": "T", "K": "0", "mix_shift": "0",
    "radial_basis": "EQUISPACED_GAUSS",
}  # fmt: skip
PAIR_KEYS = ("cutoff", "cutoff_transition_width", "Z1", "Z2")
PAIR_FIXED = {"only_intra": "F", "only_inter": "F", "n_exponents": "1", "exponents": "1", "tail_exponent": "0"}
TRIPLET_KEYS = ("cutoff", "cutoff_transition_width", "Z", "Z1", "Z2")
CENTRAL_REFERENCE_CHANGED = 1426512068
"""Before this gap_version the centre's own density entered the channels of all elements, whatever the text says."""
NORMALISATION_CHANGED = 1423143769
"""Before this gap_version the power spectrum lacked the factor 1 / sqrt(2l + 1)."""
CUTOFF_TOLERANCE = 1e-6
"""Largest difference between sparseCutoff and the cutoff function at its sparse point."""

Slot = tuple[np.ndarray, np.ndarray]
"""Sparse points and weights of one element, or pair of elements."""


@dataclass(frozen=True)
class Part:
    """One coordinate: which slots of a term it fills.

    Parameters
    ----------
    settings : hashable
        Parameters of the term; parts of equal settings go into one term.
    build : callable
        Term of a tuple of sparse points, one entry per slot.
    n_slots : int
    slots : dict of int to Slot
    empty : array
        What an unfilled slot holds.
    """

    settings: Any
    build: Callable[[tuple[np.ndarray, ...]], Term]
    n_slots: int
    slots: dict[int, Slot]
    empty: np.ndarray


def terms_of(coordinates: Sequence[Coordinate], version: int) -> tuple[tuple[int, ...], list[Term], np.ndarray]:
    """Sorted species, terms and weights (M,), 1/eV, of a GAP potential.

    Parameters
    ----------
    coordinates : sequence of Coordinate
    version : int
        gap_version of the file, 0 where it has none.

    Raises
    ------
    ModelFileError
        Parts of the file contradict each other.
    UnsupportedPotentialError
        A descriptor or an option that mlpot does not compute.
    """
    for coordinate in coordinates:
        if coordinate.kind not in _PARTS:
            raise UnsupportedPotentialError(
                f"{coordinate.place}: descriptor {quoted(coordinate.kind)}: mlpot computes {', '.join(_PARTS)}; evaluate this "
                "potential with QUIP"
            )
    species = tuple(sorted({z for coordinate in coordinates for z in _named_elements(coordinate)}))
    if not species:
        raise UnsupportedPotentialError(
            f"{coordinates[0].place}: no descriptor names an element; add Z, or Z1 and Z2, to the text of <descriptor>"
        )
    groups: list[tuple[Part, dict[int, Slot]]] = []
    for coordinate in coordinates:
        part = _part(coordinate, species, version)
        for leader, slots in groups:
            if leader.settings == part.settings and not slots.keys() & part.slots.keys():
                slots.update(part.slots)
                break
        else:
            groups.append((part, dict(part.slots)))
    terms, weights = [], []
    for leader, slots in groups:
        filled = [slots.get(k, (leader.empty, np.zeros(0))) for k in range(leader.n_slots)]
        terms.append(leader.build(tuple(points for points, _ in filled)))
        weights += [values for _, values in filled]
    return species, terms, np.concatenate(weights)


def _part(coordinate: Coordinate, species: tuple[int, ...], version: int) -> Part:
    try:
        return _PARTS[coordinate.kind](coordinate, species, version)
    except ModelFileError:
        raise
    except MlpotError as error:  # a descriptor that refuses its parameters
        raise ModelFileError(f"{coordinate.options.place}: {error}") from error


def _named_elements(coordinate: Coordinate) -> Iterator[int]:
    for key in ("Z", "Z1", "Z2", "species_Z"):
        for z in coordinate.options.integers(key, "0"):
            if not 0 <= z < len(chemical_symbols):
                raise ModelFileError(
                    f"{coordinate.options.place}: {key} = {z}: must be an atomic number, or 0 for any; restore the file"
                )
            if z > 0:
                yield z


def _require(coordinate: Coordinate, covariance_type: int, n_dimensions: int) -> None:
    """Errors for another kernel or another number of dimensions than the descriptor has."""
    if coordinate.covariance_type != covariance_type:
        raise UnsupportedPotentialError(
            f"{coordinate.place}: covariance_type = {coordinate.covariance_type}: mlpot computes {covariance_type} only for "
            f"{coordinate.kind} (1: ard_se, 2: dot_product); evaluate this potential with QUIP"
        )
    found = coordinate.sparse_points.shape[1]
    if found != n_dimensions:
        raise ModelFileError(
            f"{coordinate.place}: dimensions = {found}, but the descriptor has {n_dimensions}; restore the file"
        )
    if covariance_type == SQUARED_EXPONENTIAL:
        if coordinate.offset != 0:
            raise UnsupportedPotentialError(
                f"{coordinate.place}: signal_mean = {coordinate.offset} eV: mlpot computes f0 = 0 only for "
                f"{coordinate.kind}; evaluate this potential with QUIP, or fit one with f0 = 0"
            )
        if len(coordinate.length_scales) != n_dimensions or np.any(coordinate.length_scales <= 0):
            raise ModelFileError(
                f"{coordinate.place}: theta = {coordinate.length_scales.tolist()}: must be {n_dimensions} positive "
                "lengths in A; restore the file"
            )


def _require_cutoffs(coordinate: Coordinate, expected: np.ndarray) -> None:
    wrong = np.flatnonzero(np.abs(coordinate.sparse_cutoffs - expected) > CUTOFF_TOLERANCE)
    if len(wrong):
        raise ModelFileError(
            f"{coordinate.place}: sparseCutoff = {coordinate.sparse_cutoffs[wrong[0]]} of sparseX {wrong[0] + 1}, but the "
            f"cutoff function is {expected[wrong[0]]} there; cutoff or sparse points were edited: restore the files"
        )


def _cutoff(options: Arguments) -> tuple[float, float]:
    """cutoff and its width, A."""
    cutoff, width = options.number("cutoff"), options.number("cutoff_transition_width", "0.5")
    if not 0 < width <= cutoff:
        raise UnsupportedPotentialError(
            f"{options.place}: cutoff_transition_width = {width} A: must be positive and at most cutoff = {cutoff} A"
        )
    return cutoff, width


def _soap_part(coordinate: Coordinate, species: tuple[int, ...], version: int) -> Part:
    options = coordinate.options
    options.refuse_others((*SOAP_KEYS, *TRAINING), SOAP_FIXED)
    if version < NORMALISATION_CHANGED:
        raise UnsupportedPotentialError(
            f"{coordinate.place}: gap_version = {version}: SOAP vectors older than {NORMALISATION_CHANGED} are not "
            "divided by sqrt(2l + 1); fit the potential again with a newer gap_fit"
        )
    order, centres = _soap_elements(coordinate, species)
    everywhere = options.flag("central_reference_all_species", "F") or version < CENTRAL_REFERENCE_CHANGED
    options.positive("n_max")
    constant = options.number("covariance_sigma0", "0")
    if constant < 0:
        raise ModelFileError(f"{options.place}: covariance_sigma0 = {constant}: must not be negative; restore the file")
    descriptor = SoapDescriptor(
        species,
        GapRadialBasis(
            options.integer("n_max"), options.integer("l_max"), *_cutoff(options), options.positive("atom_sigma"),
            options.positive("basis_error_exponent", "10"),
        ),
        options.number("central_weight", "1"),
        everywhere,
        constant,
    )  # fmt: skip
    n_invariants = descriptor.n_features - (descriptor.constant > 0)
    _require(coordinate, DOT_PRODUCT, n_invariants + 1)
    if coordinate.zeta is None:
        raise ModelFileError(f"{coordinate.place}: neither zeta nor a single theta; restore the file")
    _require_cutoffs(coordinate, np.ones(len(coordinate.weights)))
    wrong = np.flatnonzero(np.abs(coordinate.sparse_points[:, -1] - constant) > CUTOFF_TOLERANCE)
    if len(wrong):
        raise ModelFileError(
            f"{coordinate.place}: sparseX {wrong[0] + 1} ends with {coordinate.sparse_points[wrong[0], -1]}, not with "
            f"covariance_sigma0 = {constant}; restore the files"
        )
    columns = feature_columns(order, species, descriptor.basis.n_max, descriptor.basis.l_max)
    features = coordinate.sparse_points[:, np.append(columns, n_invariants)][:, : descriptor.n_features]
    zeta, scale = coordinate.zeta, coordinate.energy_scale
    return Part(
        settings=(descriptor, zeta, scale),
        build=lambda arrays: SoapTerm(descriptor, zeta, (scale,) * len(species), arrays),
        n_slots=len(species),
        slots={species.index(z): (np.ascontiguousarray(features), coordinate.weights) for z in centres},
        empty=np.zeros((0, descriptor.n_features)),
    )


def _soap_elements(coordinate: Coordinate, species: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Elements of the neighbours in the order of the file, and of the centres; 0 means any."""
    options = coordinate.options
    order = options.integers("species_Z", "0")
    centres = options.integers("Z", "0")
    for key, found in (("n_species", order), ("n_Z", centres)):
        if len(found) != options.integer(key, "1"):
            name = {"n_species": "species_Z", "n_Z": "Z"}[key]
            raise ModelFileError(
                f"{options.place}: {name} = {quoted(options.text(name, ''))}, but {key} = {options.text(key, '1')}; restore the file"
            )
    if order == [0] and len(species) == 1:
        order = list(species)
    if centres == [0]:
        centres = list(species)
    if sorted(order) != list(species) or not set(centres) <= set(species):
        raise UnsupportedPotentialError(
            f"{options.place}: species_Z = {quoted(options.text('species_Z', '0'))}, Z = {quoted(options.text('Z', '0'))}: mlpot "
            f"computes descriptors that see all elements of the potential, {list(species)}; evaluate this potential with QUIP"
        )
    return order, centres


def feature_columns(order: Sequence[int], species: Sequence[int], n_max: int, l_max: int) -> np.ndarray:
    """Columns of a power spectrum with elements in `order` that give the one with elements in `species`."""
    channels = np.concatenate([order.index(z) * n_max + np.arange(n_max) for z in species])
    a, b = np.tril_indices(len(channels))
    high, low = np.maximum(channels[a], channels[b]), np.minimum(channels[a], channels[b])
    couplings = high * (high + 1) // 2 + low
    return (couplings[:, None] * (l_max + 1) + np.arange(l_max + 1)).ravel()


def _pair_part(coordinate: Coordinate, species: tuple[int, ...], version: int) -> Part:
    options = coordinate.options
    options.refuse_others((*PAIR_KEYS, *TRAINING), PAIR_FIXED)
    _require(coordinate, SQUARED_EXPONENTIAL, 1)
    cutoff, width = _cutoff(options)
    radii = np.ascontiguousarray(coordinate.sparse_points[:, 0])
    _require_cutoffs(coordinate, cosine_cutoff(radii, cutoff, width)[0])
    ends = [species if z == 0 else (z,) for z in (options.integer("Z1", "0"), options.integer("Z2", "0"))]
    wanted = {(min(a, b), max(a, b)) for a in ends[0] for b in ends[1]}
    # E_i = sum_j u is half the sum of 2 u: the standard deviation doubles, so that weights times variances only double
    length, scale, weights = float(coordinate.length_scales[0]), 2 * coordinate.energy_scale, coordinate.weights / 2
    pairs = species_pairs(species)
    return Part(
        settings=("pair", cutoff, width, length, scale),
        build=lambda arrays: PairTerm(species, cutoff, width, length, (scale,) * len(pairs), arrays),
        n_slots=len(pairs),
        slots={k: (radii, weights) for k, pair in enumerate(pairs) if pair in wanted},
        empty=np.zeros(0),
    )


def _triplet_part(coordinate: Coordinate, species: tuple[int, ...], version: int) -> Part:
    options = coordinate.options
    options.refuse_others((*TRIPLET_KEYS, *TRAINING), {})
    _require(coordinate, SQUARED_EXPONENTIAL, 3)
    cutoff, width = _cutoff(options)
    total, square, _ = coordinate.sparse_points.T
    sides = (total + np.sqrt(np.maximum(square, 0)) * [[1], [-1]]) / 2
    at_points = np.prod([cosine_cutoff(side, cutoff, width)[0] for side in sides], axis=0)
    _require_cutoffs(coordinate, at_points)
    elements = [options.integer(key, "0") for key in ("Z", "Z1", "Z2")]
    if len(species) == 1:
        elements = [z or species[0] for z in elements]
    if 0 in elements:
        raise UnsupportedPotentialError(
            f"{options.place}: Z, Z1, Z2 = {elements}: mlpot computes triplets of given elements; write them into the text"
        )
    # QUIP adds up ordered triplets, our term unordered ones: twice the covariance, delta times the root of 2
    term = ThreeBodyTerm(
        species, elements[0], (elements[1], elements[2]), cutoff, width, coordinate.length_scales,
        float(np.sqrt(2)) * coordinate.energy_scale, np.ascontiguousarray(coordinate.sparse_points), at_points,
    )  # fmt: skip
    return Part(
        settings=coordinate.place,  # a term of its own
        build=lambda _: term,
        n_slots=1,
        slots={0: (coordinate.sparse_points, coordinate.weights)},
        empty=np.zeros((0, 3)),
    )


_PARTS: dict[str, Callable[[Coordinate, tuple[int, ...], int], Part]] = {
    "soap": _soap_part,
    "distance_2b": _pair_part,
    "angle_3b": _triplet_part,
}
