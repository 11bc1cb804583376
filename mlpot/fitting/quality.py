"""How good a fit is, in words and numbers: errors against the spread of the labels, and what would lower them.

e_t: RMS error on the training data, what the model cannot explain of what it has seen. e_l: on structures left out in groups. Their
difference is what it has not seen. Fits to 5 to 320 structures of several data sets (see benchmarks/README.md) show that with more
data e_l comes down to e_t, which hardly changes, and that twice the data about halves the difference,

    e_l(2 n) ~ (e_l + e_t) / 2.

Where e_t is the larger part of e_l more data cannot help much: another model may, unless it is the labels that scatter. These
bounds between "good" and "rough", or "data" and "model", are rules of thumb; `mlpot learning-curve` and `mlpot compare` measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import required
from ..models.evaluate import Comparison, errors
from ..models.report import Errors, FitReport, LabelQuality
from ..settings.fit import FitConfig
from ..structures import LabelledStructure
from ..terms.baseline import fit_isolated_atom_energies
from ..units import GIGAPASCAL, MILLI

UNITS = {"energy": "meV/atom", "forces": "eV/A", "stress": "GPa"}
NAMES = {"energy": "energies", "forces": "forces", "stress": "stresses"}
WORDS = ((0.03, "very good"), (0.1, "good"), (0.2, "fair"), (0.4, "rough"), (np.inf, "poor"))
"""Errors up to these parts of the spread: of forces 10 % are usual for potentials that simulations are done with."""
FEW = 5
"""Structures left out, below which their errors say little."""
MANY = 10
"""Structures left out, from which on a few of them may be told from all others."""
DATA, MODEL = 0.7, 0.85
"""e_t / e_l below the first: more data comes first; above the second: another model does."""
FAR = 3.0
"""A given noise that is so many times larger or smaller than e_t keeps the fit from what it could be."""
PART = 0.05
"""Structures that are looked at together because they may have most of the error."""
UNLIKE = 1.5
"""Errors on test structures, in units of those of structures left out, from which on the two are not of one kind."""
LARGER: dict[str, str] = {"fast": "balanced", "balanced": "accurate"}


def rms_errors(found: Errors) -> dict[str, float | None]:
    """Root mean square errors by kind of label, in `UNITS`."""
    return {
        "energy": found.energy_rmse_mev_per_atom,
        "forces": found.force_rmse_ev_per_ang,
        "stress": found.stress_rmse_gpa,
    }


def spreads(structures: Sequence[LabelledStructure]) -> dict[str, float]:
    """Root mean squares of the labels, in `UNITS`: energies per atom without what the composition explains, force components,
    stress components about their means. Kinds that do not vary are left out."""
    with_energy = [s for s in structures if s.energy is not None]
    species = sorted({int(z) for s in with_energy for z in s.atoms.numbers})
    mean = fit_isolated_atom_energies(with_energy, species)
    energies = [
        (required(s.energy, "energy") - sum(mean[z] for z in s.atoms.numbers.tolist())) / s.n_atoms for s in with_energy
    ]
    forces = np.concatenate([np.empty(0), *(np.ravel(s.forces) for s in structures if s.forces is not None)])
    stresses = np.array([s.virial / s.atoms.get_volume() for s in structures if s.virial is not None]).reshape(-1, 3, 3)
    found = {
        "energy": _rms(np.array(energies) / MILLI),
        "forces": _rms(forces),
        "stress": _rms((stresses - stresses.mean(axis=0)) / GIGAPASCAL) if len(stresses) else 0.0,
    }
    return {kind: value for kind, value in found.items() if value > 1e-6}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def label_quality(trained: Sequence[Comparison], left_out: Sequence[Comparison]) -> list[LabelQuality]:
    """Spread and errors of every kind of label, of structures that the fit has seen and of those left out of it."""
    known, unknown = rms_errors(errors(trained)), rms_errors(errors(left_out))
    return [
        LabelQuality(kind, spread, training, unknown[kind], len(left_out), *_worst(kind, left_out))
        for kind, spread in spreads([c.structure for c in trained]).items()
        if (training := known[kind]) is not None
    ]


def _worst(kind: str, comparisons: Sequence[Comparison]) -> tuple[str, float, float | None]:
    """Of the worst `PART` of the structures: the name of the first, the share of the squared error that they have, and the RMS error
    of all others."""
    known = {c.structure.name: c for c in comparisons}
    squares = {name: square for name, c in known.items() if (square := _squared(kind, c)) is not None}
    order = sorted(squares, key=lambda name: -squares[name])
    n = math.ceil(PART * len(order))
    total = sum(squares.values())
    if not total or len(order) == n:
        return "", 0.0, None
    share = sum(squares[name] for name in order[:n]) / total
    return order[0], share, rms_errors(errors([known[name] for name in order[n:]]))[kind]


def _squared(kind: str, comparison: Comparison) -> float | None:
    """Sum of squares of the errors of one structure."""
    values = {"energy": comparison.energy_per_atom, "forces": comparison.forces, "stress": comparison.stress}[kind]
    return None if values is None else float(np.sum(np.asarray(values) ** 2))


def judgement(report: FitReport, config: FitConfig, test: Errors | None = None) -> list[str]:
    """Lines for people: errors against the spread of the labels, and which remedy comes first.

    Parameters
    ----------
    report : FitReport
    config : FitConfig
        As it was given: noises in it are the user's.
    test : Errors or None
        On structures of a test set.
    """
    if report.n_bound is None:  # of an earlier version
        return []
    if report.n_bound < 2:
        what = "one structure is" if report.n_bound else "isolated atoms alone are"
        return [f"how good the model is cannot be said: {what} no data set, and there is nothing to compare with"]
    lines = [_line(quality, test) for quality in report.quality]
    main = next((q for kind in ("forces", "energy") for q in report.quality if q.kind == kind), None)
    if main is None or main.left_out is None:
        return [*lines, "what would lower the errors cannot be said: no structure was left out"]
    remedy = _remedy(main, config)
    if main.left_out <= WORDS[0][0] * main.spread:
        remedy = f"should that not be enough, {remedy}"
    return [*lines, remedy, *_unlike(main, test)]


def _line(quality: LabelQuality, test: Errors | None) -> str:
    """One kind of label."""
    tested = None if test is None else rms_errors(test)[quality.kind]
    shown = {"left out": quality.left_out, "test": tested, "training": quality.training}
    parts = [f"{name} {value:.3g} ({value / quality.spread:.1%})" for name, value in shown.items() if value is not None]
    judged = next(value for value in (tested, quality.left_out, quality.training) if value is not None)
    word = next(word for bound, word in WORDS if judged / quality.spread <= bound)
    return f"{NAMES[quality.kind]}: {word}; RMS errors, of a spread of {quality.spread:.3g} {UNITS[quality.kind]}: {', '.join(parts)}"


def _remedy(quality: LabelQuality, config: FitConfig) -> str:
    """What comes first, and why."""
    if quality.n_left_out >= MANY and quality.worst_share > 0.5:
        return (
            f"what helps most: more structures like {quality.worst}; {math.ceil(PART * quality.n_left_out)} of "
            f"{quality.n_left_out} structures left out have {quality.worst_share:.0%} of the squared error of {NAMES[quality.kind]}, "
            f"the RMS error of all others is {quality.others:.3g} {UNITS[quality.kind]}"
        )
    left_out = _left_out(quality)
    share = quality.training / max(left_out, 1e-300)
    doubled = (left_out + min(quality.training, left_out)) / 2
    more = (
        f"more data: twice as much would bring the RMS error of {NAMES[quality.kind]} to about {doubled:.3g} "
        f"{UNITS[quality.kind]} (rule of thumb; `mlpot learning-curve` measures it)"
    )
    if quality.n_left_out < FEW:
        return f"{more}; {quality.n_left_out} structures say little of any other"
    if (said := _noise_in_the_way(quality, config)) is not None:
        return said
    larger = _larger(None if config.terms else config.preset or "balanced")
    if share < DATA:
        return f"what helps most: {more}"
    if share > MODEL:
        return (
            f"what helps most: {larger}; errors are nearly as large on the training data, so that more data alone cannot bring "
            f"them below {quality.training:.3g} {UNITS[quality.kind]} (rule of thumb; `mlpot compare` measures it)"
        )
    return f"what helps: {more}, or {larger}"


def _larger(preset: str | None) -> str:
    """A model that explains more."""
    if preset in LARGER:
        return f'preset = "{LARGER[preset]}"'
    if preset == "accurate":
        return "tuning (tune = true in [fit], a longer cutoff), unless the labels themselves scatter so much"
    return 'another model (preset = "accurate", more sparse points, a longer cutoff, tune = true in [fit])'


def _left_out(quality: LabelQuality) -> float:
    """RMS error of the structures that were left out, in `UNITS`."""
    return required(quality.left_out, f"{quality.kind}: error of structures left out")


def _noise_in_the_way(quality: LabelQuality, config: FitConfig) -> str | None:
    """Where a noise that was given is not of the size of what the fit leaves unexplained."""
    noise = config.force_noise if quality.kind == "forces" else config.energy_noise
    key = "force_noise" if quality.kind == "forces" else "energy_noise"
    if not isinstance(noise, float | int) or key in (config.adapt or ()) or config.tune:
        return None
    left = quality.training if quality.kind == "forces" else quality.training * MILLI
    if noise < FAR * left and (quality.training > 0.5 * _left_out(quality) or noise * FAR > left):
        return None
    return (
        f"what helps most: tuning; {key} = {noise:g} is far from the errors that the fit leaves on its own data, {left:.3g}; "
        f"leave {key} out, so that it follows the data, or set tune = true in [fit]"
    )


def _unlike(quality: LabelQuality, test: Errors | None) -> list[str]:
    """Where test structures are of another kind than the training data."""
    tested = None if test is None else rms_errors(test)[quality.kind]
    if tested is None or tested < UNLIKE * _left_out(quality):
        return []
    return [
        f"the test structures are unlike the training data: their errors are {tested / _left_out(quality):.1f} times as large as of "
        "training structures left out; add structures like them"
    ]
