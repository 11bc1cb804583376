"""Public contract check of a labeller: what any labeller must satisfy, measured on a given structure."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from ase import Atoms

from ..checks import Check
from ..errors import LabelError
from ..structure_encoding import encode
from ..structures import volume_of
from .protocol import NET_FORCE_TOLERANCE, SAME_ENERGY, Label, Labeller, check_finite, check_shapes

STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
"""Fourth-order finite differences of a first derivative: places and weights."""
DISPLACEMENT, STRAIN = 0.05, 0.002
"""Steps of the finite differences along a random direction: length of the displacement of all atoms together in A, and norm of the
strain. Large enough for codes whose energies scatter by 1e-5 eV."""
RATTLE, EXPANSION = 0.05, 1.02
"""Amplitude (A) by which the structure is rattled and factor by which it is expanded first: where forces and stress vanish, a
wrong unit or sign does not show."""
SAME_FORCE = 5e-3
"""Largest difference between two calculations of the same structure, eV/A."""
FORCE_TOLERANCE, STRESS_TOLERANCE, RELATIVE_TOLERANCE = 0.01, 1e-3, 0.02
"""Largest differences from the finite differences, eV/A and eV/A^3, and the fraction of the derivative that is allowed besides. With
plane waves at a fixed cutoff energy, the stress differs from the derivative of the energy by some 0.1 GPa."""


def validate_labeller(labeller: Labeller, atoms: Atoms, seed: int = 0) -> list[Check]:
    """Check that labels have the right shapes, units and signs, can be repeated, and that failures are LabelErrors.

    About ten labels are made, of rattled and strained copies of the structure.

    Parameters
    ----------
    labeller : Labeller
        `CalculatorLabeller("package.module.Class", parameters)`, or any object with the members of the protocol.
    atoms : ase.Atoms
        A small structure. Its stress is checked if it has three cell vectors and the labeller returns one.
    seed : int
        Of the random directions.

    Returns
    -------
    list of Check
        Each with `passed`; look at all of them. If the first ones fail there are no others.

    Raises
    ------
    ConfigError
        From `labeller.check()`: it cannot work at all.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from mlpot.labellers.calculator import CalculatorLabeller
    >>> checks = validate_labeller(CalculatorLabeller("ase.calculators.emt.EMT"), bulk("Cu", cubic=True))
    >>> all(check.passed for check in checks)
    True
    """
    labeller.check()
    rng = np.random.default_rng(seed)
    sent = _rattled(atoms, rng)
    probe = sent.copy()
    try:
        label = labeller.label(probe)
        check_shapes(sent, label)
        check_finite(label)
    except LabelError as error:
        return [Check(f"delivers a label of the right shapes ({error})", 1.0, 0.0, "failures")]
    net = float(np.linalg.norm(label.forces.sum(axis=0))) / len(sent)
    checks = [
        Check("delivers a label of the right shapes", 0.0, 0.0, "failures"),
        Check("does not change the atoms", _n_changed(sent, probe), 0.0, "arrays"),
        Check("settings can be recorded and do not change", _settings_error(labeller), 0.0, "failures"),
        *_repeatability(labeller, sent, label),
        Check("forces add up to zero", net, NET_FORCE_TOLERANCE, "eV/A per atom"),
        _force_check(labeller, sent, label, rng),
    ]
    if label.stress is not None and volume_of(sent) is not None:
        checks.append(_stress_check(labeller, sent, label, label.stress, rng))
    return [*checks, Check("failures are LabelErrors", _failure_error(labeller, sent), 0.0, "failures")]


def _rattled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """A structure with forces and stress, without constraints."""
    rattled = atoms.copy()
    rattled.set_constraint()
    rattled.positions += rng.normal(scale=RATTLE, size=rattled.positions.shape)
    rattled.set_cell(rattled.cell.array * EXPANSION, scale_atoms=True)
    return rattled


def _n_changed(sent: Atoms, found: Atoms) -> float:
    """Arrays of the structure, or its cell, that a calculation has changed."""
    before, after = encode(sent), encode(found)
    same = before.keys() == after.keys() and found.calc is None
    return float(not same) + sum(not np.array_equal(before[name], after[name]) for name in before.keys() & after.keys())


def _settings_error(labeller: Labeller) -> float:
    """Settings name a label: they must be plain, and the same each time and for a labeller without changes."""
    try:
        text = json.dumps(labeller.settings, sort_keys=True)
        return float(text != json.dumps(labeller.varied({}).settings, sort_keys=True))
    except (TypeError, ValueError):
        return 1.0


def _repeatability(labeller: Labeller, atoms: Atoms, label: Label) -> list[Check]:
    again = labeller.label(atoms.copy())
    energy = abs(again.energy - label.energy) / len(atoms)
    return [
        Check("the energy can be repeated", energy, SAME_ENERGY, "eV/atom"),
        Check("the forces can be repeated", float(np.abs(again.forces - label.forces).max()), SAME_FORCE, "eV/A"),
    ]


def _slope(energy: Callable[[float], float], step: float) -> float:
    return sum(weight * energy(place * step) for place, weight in STENCIL) / step


def _force_check(labeller: Labeller, atoms: Atoms, label: Label, rng: np.random.Generator) -> Check:
    """The derivative of the energy by a displacement of all atoms against what the forces say it is."""
    direction = rng.normal(size=atoms.positions.shape)
    if len(atoms) > 1:
        direction -= direction.mean(axis=0)  # what moves all atoms together is judged by the net force
    direction /= np.linalg.norm(direction)

    def energy(shift: float) -> float:
        moved = atoms.copy()
        moved.positions += shift * direction
        return labeller.label(moved).energy

    expected = -float(np.sum(label.forces * direction))
    tolerance = FORCE_TOLERANCE + RELATIVE_TOLERANCE * abs(expected)
    return Check("forces are minus the gradient", abs(_slope(energy, DISPLACEMENT) - expected), tolerance, "eV/A")


def _stress_check(
    labeller: Labeller, atoms: Atoms, label: Label, stress: np.ndarray, rng: np.random.Generator
) -> Check:
    """The derivative of the energy by a strain, per volume, against what the stress says it is."""
    strain = rng.normal(size=(3, 3)) * 0.3 + np.eye(3)
    strain = (strain + strain.T) / 2
    strain /= np.linalg.norm(strain)

    def energy(shift: float) -> float:
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + shift * strain), scale_atoms=True)
        return labeller.label(strained).energy

    expected = float(np.sum(stress * strain))
    found = _slope(energy, STRAIN) / atoms.get_volume()
    tolerance = STRESS_TOLERANCE + RELATIVE_TOLERANCE * abs(expected)
    return Check("stress is the derivative by strain over the volume", abs(found - expected), tolerance, "eV/A^3")


def _failure_error(labeller: Labeller, atoms: Atoms) -> float:
    """Positions that are no numbers cannot be labelled: a LabelError must say so."""
    nowhere = atoms.copy()
    nowhere.positions[0] = np.nan
    try:
        labeller.label(nowhere)
    except LabelError:
        return 0.0
    except Exception:  # whatever it is, it is of the wrong kind
        return 1.0
    return 1.0
