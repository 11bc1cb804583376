"""Public contract checks: properties that any descriptor and any term must satisfy, measured on given structures."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from .checks import Check, rotated, slope_error, translated
from .data.stored import Stored, harmless
from .descriptors.protocol import Descriptor
from .errors import ConfigError
from .fitting.surroundings import settled
from .neighbours import Pairs, find_pairs
from .settings.terms import TermSettingsBase
from .structures import LabelledStructure
from .terms.core_terms import Sums, alone, evaluate, no_members, observing_alone
from .terms.describing import checked_settings
from .terms.headers import parsed
from .terms.protocol import Observed, Term
from .terms.registry import empty_term
from .terms.selection import extend_by_variance
from .uncertainty.representatives import N_MEMBERS

EDGE = 1e-6
"""Distance inside and outside of the cutoff, A."""
POINTS = 12
"""Number of sparse points of an element in a term created from settings."""
FAILED = float("inf")


def validate_descriptor(descriptor: Descriptor, atoms: Atoms, seed: int = 0) -> list[Check]:
    """Check shapes, derivatives, invariances, the cutoff, lone atoms, files and repeatability of a descriptor.

    Parameters
    ----------
    descriptor : Descriptor
    atoms : ase.Atoms
        A structure of elements that it knows, without symmetry (rattle crystals); small structures are faster.

    Returns
    -------
    list of Check
        Results, each with `passed`; examine all of them. If shapes are wrong, nothing else is checked.
    """
    rng = np.random.default_rng(seed)
    pairs = find_pairs(atoms, descriptor.cutoff)
    shapes = _shape_error(descriptor, pairs)
    if shapes:
        return [Check("arrays have their shapes and are finite", shapes, 0, "")]
    own = descriptor.compute(pairs)
    size = max(1.0, float(np.abs(own).max()))
    cotangent = rng.standard_normal(own.shape)

    def error(moved: Atoms, order: Any = slice(None)) -> float:
        return float(np.abs(descriptor.compute(find_pairs(moved, descriptor.cutoff)) - own[order]).max())

    def value(moved: Atoms) -> float:
        return float(np.sum(cotangent * descriptor.compute(find_pairs(moved, descriptor.cutoff))))

    pulled = descriptor.vjp(pairs, cotangent)
    gradients = (-pairs.forces(pulled), -pairs.virial(pulled))
    slope = max(float(np.abs(part).max()) for part in (*gradients, np.ones(1)))
    jump, end = _edge(descriptor, atoms)
    order = rng.permutation(len(atoms))
    return [
        Check("arrays have their shapes and are finite", shapes, 0, ""),
        Check("the same arguments give the same bits", _repeat_error(descriptor, pairs, cotangent), 0, ""),
        Check("vjp is the derivative by positions", _moved_error(value, atoms, gradients[0], rng), 1e-6 * slope, "1/A"),
        Check("vjp is the derivative by strain", _strained_error(value, atoms, gradients[1]), 1e-6 * slope, ""),
        Check("jacobian and vjp agree", _jacobian_error(descriptor, pairs, cotangent, pulled), 1e-9 * slope, "1/A"),
        Check("features are of an atom's own neighbours", _foreign(descriptor, pairs, own, rng), 1e-12 * size, ""),
        Check("invariant under rotation", error(rotated(atoms, rng)[0]), 1e-9 * size, ""),
        Check("invariant under translation", error(translated(atoms, rng)), 1e-9 * size, ""),
        Check("invariant under permutation", error(atoms[order], order), 1e-9 * size, ""),
        Check("continuous at the cutoff", jump, 1e-5 * size, ""),
        Check("slopes vanish at the cutoff", end, 1e-3 * slope, "1/A"),
        Check("lone atoms have features", _lone_error(descriptor), 0, ""),
        Check("files keep it to the last bit", _state_error(descriptor, pairs, own), 0, ""),
        Check("pickling keeps it to the last bit", _difference(pickled(descriptor).compute(pairs), own), 0, ""),
    ]


def validate_term(term: Term | TermSettingsBase | dict[str, Any], frames: Sequence[Atoms], seed: int = 0) -> list[Check]:
    """Check rows, derivatives, covariances, invariances, compiled form, ensemble, files and repeatability of a term.

    Parameters
    ----------
    term : Term, or settings of one
        From settings, a term is created with sparse points from the frames.
    frames : sequence of ase.Atoms
        Structures of elements that it knows, without symmetry, labelled or not. Checks use the first one; small ones are faster.

    Returns
    -------
    list of Check
        Results, each with `passed`; examine all of them.

    Raises
    ------
    ConfigError
        If settings are invalid, or there are no frames.
    """
    if not frames:
        raise ConfigError("frames: is empty; provide at least one structure")
    made: Any = _made(term, frames) if isinstance(term, dict | TermSettingsBase) else term
    rng = np.random.default_rng(seed)
    return [*_potential_checks(made, frames[0], rng), *(_covariance_checks(made, frames[0], rng) if is_fitted(made) else [])]


def is_fitted(term: Term) -> bool:
    """Whether a fit can use the term; otherwise it occurs only in imported models."""
    return hasattr(term, "add_rows")


def _made(settings: Any, frames: Sequence[Atoms]) -> Any:
    """Create a term with sparse points from structures."""
    chosen = checked_settings(settings)
    species = tuple(sorted({int(z) for atoms in frames for z in atoms.numbers}))
    term: Any = settled(empty_term(chosen, species, 1.0), frames)
    if not term.is_many_body:
        structures = [LabelledStructure(atoms, None, None, None, "", "") for atoms in frames]
        return term.with_points(tuple(term.new_points(structures, chosen)))
    points = []
    for number in species:
        every = [
            term.features.compute(find_pairs(atoms, term.cutoff), np.flatnonzero(atoms.numbers == number)) for atoms in frames
        ]
        found = np.concatenate(every)
        points.append(found[extend_by_variance(found[:0], found, POINTS, term.kernel, 1e-8)])
    return term.with_points(tuple(points))


def _potential_checks(term: Any, atoms: Atoms, rng: np.random.Generator) -> list[Check]:
    """Checks of any term with weights as a potential."""
    weights = 0.1 * rng.standard_normal(term.n_sparse)

    def predicted(moved: Atoms, of: Any = term) -> tuple[float, np.ndarray, np.ndarray]:
        pairs = find_pairs(moved, term.cutoff)
        energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        of.predict(pairs, weights, energies, gradients)
        return float(energies.sum()), pairs.forces(gradients), pairs.virial(gradients)

    def value(moved: Atoms) -> float:
        return predicted(moved)[0]

    energy, forces, virial = predicted(atoms)
    slope = max(1.0, float(np.abs(forces).max()), float(np.abs(virial).max()))
    turned, order = rotated(atoms, rng)[0], rng.permutation(len(atoms))
    edge = [predicted(_dimer(atoms, term.cutoff + side * EDGE)) for side in (-1, 1)]
    jump = max(abs(edge[0][0] - edge[1][0]), _difference(edge[0][1], edge[1][1]))
    again = predicted(atoms)
    same = max(abs(again[0] - energy), _difference(again[1], forces))
    return [
        Check("the same arguments give the same bits", same, 0, "eV, eV/A"),
        Check("forces are minus the gradient", _moved_error(value, atoms, -forces, rng), 1e-6 * slope, "eV/A"),
        Check("virial is minus the derivative by strain", _strained_error(value, atoms, -virial), 1e-6 * slope, "eV"),
        Check("invariant under rotation", abs(value(turned) - energy), 1e-8 * slope, "eV"),
        Check("invariant under translation", abs(value(translated(atoms, rng)) - energy), 1e-8 * slope, "eV"),
        Check("invariant under permutation", _difference(predicted(atoms[order])[1], forces[order]), 1e-8 * slope, "eV/A"),
        Check("smooth at the cutoff", jump, 1e-4 * slope, "eV, eV/A"),
        Check("lone atoms have an energy", 0.0 if np.isfinite(value(Atoms([int(atoms.numbers[0])]))) else FAILED, 0, "eV"),
        Check("compiled as from the formulas", _compiled_error(term, atoms, weights, energy, forces), 1e-6 * slope, "eV, eV/A"),
        Check("files keep it to the last bit", _difference(predicted(atoms, stored_again(term))[1], forces), 0, "eV/A"),
        Check("pickling keeps it to the last bit", _difference(predicted(atoms, pickled(term))[1], forces), 0, "eV/A"),
    ]


def _covariance_checks(term: Any, atoms: Atoms, rng: np.random.Generator) -> list[Check]:
    """Additional checks of covariances, for fits and uncertainties."""
    pairs, weights = find_pairs(atoms, term.cutoff), 0.1 * rng.standard_normal(term.n_sparse)
    energy, forces, virial = (np.zeros((n, term.n_sparse)) for n in (1, 3 * len(atoms), 9))
    term.add_rows(pairs, energy[0], forces, virial)
    energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
    term.predict(pairs, weights, energies, gradients)
    slope = max(1.0, float(np.abs(gradients).max()))
    covariances = term.covariances(pairs)
    doubled, twice = np.zeros(term.n_sparse), term.with_scales(tuple(2 * s for s in term.energy_scales))
    twice.add_rows(pairs, doubled, None, None)
    lowest = min((float(np.linalg.eigvalsh(block).min()) for block in term.prior()), default=0.0)
    found = [
        Check("rows of energies are sums of covariances", _difference(energy[0], covariances.sum(axis=0)), 1e-8, "eV^2"),
        Check("rows of energies are linear in weights", abs(energy[0] @ weights - energies.sum()), 1e-8 * len(atoms), "eV"),
        Check("rows of forces are derivatives", _difference(forces @ weights, pairs.forces(gradients).ravel()), 1e-8 * slope, "eV/A"),
        Check("rows of virials are derivatives", _difference(virial @ weights, pairs.virial(gradients).ravel()), 1e-7 * slope, "eV"),
        Check("rows grow with squares of energy scales", _difference(doubled, 4 * energy[0]), 1e-8, "eV^2"),
        Check("covariances of points are positive", max(-lowest, 0.0), 1e-8, "eV^2"),
        Check("points explain no more than there is", _overexplained(term, pairs, covariances), 1e-6, "eV^2"),
        Check("its ensemble is of the same term", _observed_error(term, pairs, weights, covariances, gradients), 0.1, ""),
    ]
    return found


def _shape_error(descriptor: Descriptor, pairs: Pairs) -> float:
    """0, or infinity if an array has the wrong shape or is not finite."""
    shape = (pairs.n_atoms, descriptor.n_features)
    for found, wanted in (
        (lambda: descriptor.compute(pairs), shape),
        (lambda: descriptor.vjp(pairs, np.ones(shape)), (pairs.n_pairs, 3)),
        (lambda: descriptor.jacobian(pairs), (pairs.n_pairs, 3, descriptor.n_features)),
    ):
        array = found()
        if not isinstance(array, np.ndarray) or array.shape != wanted or not np.all(np.isfinite(array)):
            return FAILED
    return 0.0


def _repeat_error(descriptor: Descriptor, pairs: Pairs, cotangent: np.ndarray) -> float:
    features = _difference(descriptor.compute(pairs), descriptor.compute(pairs))
    return max(features, _difference(descriptor.vjp(pairs, cotangent), descriptor.vjp(pairs, cotangent)))


def _jacobian_error(descriptor: Descriptor, pairs: Pairs, cotangent: np.ndarray, pulled: np.ndarray) -> float:
    return _difference(np.einsum("pxf,pf->px", descriptor.jacobian(pairs), cotangent[pairs.i]), pulled)


def _foreign(descriptor: Descriptor, pairs: Pairs, own: np.ndarray, rng: np.random.Generator) -> float:
    """Largest change of the features of atom 0 when the vectors of all other atoms' pairs change."""
    shift = np.where(pairs.i == 0, 0.0, 0.01)[:, None] * rng.standard_normal((pairs.n_pairs, 3))
    return _difference(descriptor.compute(pairs.with_vectors(pairs.vectors + shift))[0], own[0])


def _edge(descriptor: Descriptor, atoms: Atoms) -> tuple[float, float]:
    """Change of a pair's features across the cutoff, and their largest slope just inside."""
    inside, outside = (find_pairs(_dimer(atoms, descriptor.cutoff + side * EDGE), descriptor.cutoff) for side in (-1, 1))
    slopes = descriptor.jacobian(inside)
    return _difference(descriptor.compute(inside), descriptor.compute(outside)), float(np.abs(slopes).max(initial=0.0))


def _lone_error(descriptor: Descriptor) -> float:
    """0, or infinity if an atom without neighbours has no features."""
    return max(_shape_error(descriptor, find_pairs(Atoms([z]), descriptor.cutoff)) for z in descriptor.species)


def _state_error(descriptor: Descriptor, pairs: Pairs, own: np.ndarray) -> float:
    state = descriptor.state()
    arrays = {name: value.copy() for name, value in state.items() if isinstance(value, np.ndarray)}
    plain = json.loads(json.dumps({name: value for name, value in state.items() if name not in arrays}))
    return _difference(type(descriptor).from_state(descriptor.species, {**plain, **arrays}).compute(pairs), own)


def _compiled_error(term: Any, atoms: Atoms, weights: np.ndarray, energy: float, forces: np.ndarray) -> float:
    pairs = find_pairs(atoms, term.cutoff)
    energies, gradients = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
    compiled = term.compile(weights, 1e-9)
    if compiled.in_core:
        energies, gradients = evaluate(alone(compiled.core_tables()), pairs)
    else:
        compiled.predict(pairs, energies, gradients)
    return max(abs(float(energies.sum()) - energy), _difference(pairs.forces(gradients), forces))


def _overexplained(term: Any, pairs: Pairs, covariances: np.ndarray) -> float:
    """Largest amount by which |L^-1 k|^2 exceeds the prior variance of an atom, eV^2."""
    explained, begin = np.zeros(pairs.n_atoms), 0
    for block in term.prior():
        own = covariances[:, begin : begin + len(block)]
        jitter = 1e-8 * np.trace(block) / len(block) * np.eye(len(block))
        explained += np.einsum("as,sa->a", own, np.linalg.solve(block + jitter, own.T))
        begin += len(block)
    return max(float((explained - term.variances(pairs)).max()), 0.0)


def _observed_error(
    term: Any, pairs: Pairs, weights: np.ndarray, covariances: np.ndarray, gradients: np.ndarray
) -> float:
    """Relative errors of covariances and member gradients of an observer whose ensemble has the term's own weights."""
    observer = term.observer(term.compile(weights, 1e-9), np.repeat(weights[:, None], N_MEMBERS, axis=1), None)
    seen, members = np.zeros_like(covariances), no_members(pairs)
    if observer.in_core:
        core = observing_alone(observer.core_tables(), seen.shape[1], term.is_many_body)
        evaluate(core, pairs, Sums(covariances=seen, members=members))
    else:
        energies, mean = np.zeros(pairs.n_atoms), np.zeros((pairs.n_pairs, 3))
        observer.add(pairs, Observed(energies, mean, seen, members, None, seen, np.zeros((pairs.n_atoms, 2))))
    size = max(float(np.linalg.norm(gradients)), 1e-12)
    worst = max(float(np.linalg.norm(members[:, :, k] - gradients)) for k in range(N_MEMBERS)) / size
    return max(worst, _difference(seen, covariances) * 1e4)


def stored_again(term: Any) -> Any:
    """The term after writing it to a file and reading it back."""
    with h5py.File(io.BytesIO(), "w") as h5:
        for name, array in term.arrays().items():
            h5[f"terms/0/{name}"] = array
        header = parsed(term.header_type, json.dumps(term.description()))
        return type(term).read(header, Stored(harmless(h5, 2**40), h5.attrs, 0), "terms/0")


def pickled(value: Any) -> Any:
    """The object after pickling and unpickling."""
    return pickle.loads(pickle.dumps(value))


def _moved_error(value: Callable[[Atoms], float], atoms: Atoms, gradient: np.ndarray, rng: np.random.Generator) -> float:
    """Largest difference between derivative and finite difference along three random displacements of all atoms."""
    found = []
    for _ in range(3):
        along = rng.standard_normal((len(atoms), 3)) / np.sqrt(3 * len(atoms))

        def energy(shift: float, along: np.ndarray = along) -> float:
            moved = atoms.copy()
            moved.positions = moved.positions + shift * along
            return value(moved)

        found.append(slope_error(energy, float(np.sum(gradient * along))))
    return max(found)


def _strained_error(value: Callable[[Atoms], float], atoms: Atoms, gradient: np.ndarray) -> float:
    """Difference between derivative and finite difference along a symmetric strain with all components."""
    along = np.array([[0.5, 0.3, -0.2], [0.3, -0.4, 0.1], [-0.2, 0.1, 0.6]])

    def energy(shift: float) -> float:
        moved = atoms.copy()
        moved.cell = atoms.cell.array @ (np.eye(3) + shift * along)
        moved.positions = atoms.positions @ (np.eye(3) + shift * along)
        return value(moved)

    return slope_error(energy, float(np.sum(gradient * along)))


def _dimer(atoms: Atoms, distance: float) -> Atoms:
    return Atoms([int(atoms.numbers[0]), int(atoms.numbers[-1])], positions=[[0, 0, 0], [0, 0, distance]])


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """Largest difference of two arrays; infinity if their shapes differ."""
    if np.shape(first) != np.shape(second):
        return FAILED
    return float(np.abs(first - second).max(initial=0.0))
