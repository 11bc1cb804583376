"""Quality of a fit in words and numbers: errors relative to the spread of the labels, and the most promising remedy.

e_t is the RMS error on the training data, which the model cannot explain; e_l is the RMS error on structures left out in groups. The
difference is due to missing data. Fits to 5 to 320 structures of several data sets (see benchmarks/README.md) show that e_l
approaches e_t with more data, that e_t hardly changes, and that doubling the data roughly halves the difference,

    e_l(2 n) ~ (e_l + e_t) / 2.

If e_t is the larger part of e_l, more data cannot help much; a larger model may, unless the labels themselves are noisy. The bounds
between "good" and "rough", or "data" and "model", are rules of thumb; use `mlpot learning-curve` and `mlpot compare` to measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import counted, required
from ..models.evaluate import Comparison, errors
from ..models.report import Errors, FitReport, LabelQuality
from ..settings.fit import FitConfig
from ..structures import LabelledStructure
from ..terms.baseline import fit_isolated_atom_energies
from ..units import GIGAPASCAL, MILLI

UNITS = {"energy": "meV/atom", "forces": "eV/A", "stress": "GPa"}
NAMES = {"energy": "energies", "forces": "forces", "stress": "stresses"}
WORDS = ((0.03, "very good"), (0.1, "good"), (0.2, "fair"), (0.4, "rough"), (np.inf, "poor"))
"""Upper bounds of the relative error for each word; force errors of 10 % are usual for potentials used in simulations."""
FEW = 5
"""With fewer left-out structures their errors are not significant."""
MANY = 10
"""Smallest number of left-out structures for which the worst ones are examined separately."""
DATA, MODEL = 0.7, 0.85
"""Bounds of e_t / e_l: below the first, more data is recommended; above the second, a larger model."""
FAR = 3.0
"""A given noise that differs from e_t by more than this factor degrades the fit."""
PART = 0.05
"""Fraction of the left-out structures examined together as possible sources of most of the error."""
UNLIKE = 1.5
"""Ratio of test to leave-out errors above which the test structures count as different in kind from the training data."""
LARGER: dict[str, str] = {"fast": "balanced", "balanced": "accurate"}


def rms_errors(found: Errors) -> dict[str, float | None]:
    """Root mean square errors by kind of label, in `UNITS`."""
    return {
        "energy": found.energy_rmse_mev_per_atom,
        "forces": found.force_rmse_ev_per_ang,
        "stress": found.stress_rmse_gpa,
    }


def spreads(structures: Sequence[LabelledStructure]) -> dict[str, float]:
    """Spread of the labels by kind, as root mean squares in `UNITS`; kinds that do not vary are left out.

    Energies are per atom and relative to a linear fit to the composition; stress components are relative to their means.
    """
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
    """Spread of every kind of label, and its errors on training and on left-out structures."""
    known, unknown = rms_errors(errors(trained)), rms_errors(errors(left_out))
    return [
        LabelQuality(kind, spread, training, unknown[kind], len(left_out), *_worst(kind, left_out))
        for kind, spread in spreads([c.structure for c in trained]).items()
        if (training := known[kind]) is not None
    ]


def _worst(kind: str, comparisons: Sequence[Comparison]) -> tuple[str, float, float | None]:
    """Name of the worst structure, share of the squared error in the worst `PART` of the structures, RMS error of all others."""
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
    """Sum of the squared errors of one structure."""
    values = {"energy": comparison.energy_per_atom, "forces": comparison.forces, "stress": comparison.stress}[kind]
    return None if values is None else float(np.sum(np.asarray(values) ** 2))


def judgement(report: FitReport, config: FitConfig, test: Errors | None = None) -> list[str]:
    """Readable summary: errors relative to the spread of the labels, and the first remedy to try.

    Parameters
    ----------
    report : FitReport
    config : FitConfig
        The user's configuration, with noises as given by the user.
    test : Errors or None
        Errors on a test set.
    """
    if report.n_bound is None:  # report of an earlier version
        return []
    if report.n_bound < 2:
        what = "a single structure" if report.n_bound else "isolated atoms only"
        return [f"the quality of the model cannot be assessed from {what}: no structure can be left out for comparison"]
    lines = [_line(quality, test) for quality in report.quality]
    main = next((q for kind in ("forces", "energy") for q in report.quality if q.kind == kind), None)
    if main is None or main.left_out is None:
        return [*lines, "no advice on how to reduce the errors: no structure was left out"]
    remedy = _remedy(main, config)
    if main.left_out <= WORDS[0][0] * main.spread:
        remedy = f"if this is not accurate enough: {remedy}"
    return [*lines, remedy, *_unlike(main, test)]


def _line(quality: LabelQuality, test: Errors | None) -> str:
    """Line for one kind of label."""
    tested = None if test is None else rms_errors(test)[quality.kind]
    shown = {"left out": quality.left_out, "test": tested, "training": quality.training}
    parts = [f"{name} {value:.3g} ({value / quality.spread:.1%})" for name, value in shown.items() if value is not None]
    judged = next(value for value in (tested, quality.left_out, quality.training) if value is not None)
    word = next(word for bound, word in WORDS if judged / quality.spread <= bound)
    return f"{NAMES[quality.kind]}: {word}; RMS errors for a spread of {quality.spread:.3g} {UNITS[quality.kind]}: {', '.join(parts)}"


def _remedy(quality: LabelQuality, config: FitConfig) -> str:
    """The first remedy to try, with its reason."""
    if quality.n_left_out >= MANY and quality.worst_share > 0.5:
        return (
            f"what helps most: more structures like {quality.worst}; {math.ceil(PART * quality.n_left_out)} of "
            f"{quality.n_left_out} left-out structures have {quality.worst_share:.0%} of the squared error of {NAMES[quality.kind]}; "
            f"the RMS error of all others is {quality.others:.3g} {UNITS[quality.kind]}"
        )
    left_out = _left_out(quality)
    share = quality.training / max(left_out, 1e-300)
    doubled = (left_out + min(quality.training, left_out)) / 2
    more = (
        f"more data: twice as much would reduce the RMS error of {NAMES[quality.kind]} to about {doubled:.3g} "
        f"{UNITS[quality.kind]} (rule of thumb; `mlpot learning-curve` measures it)"
    )
    if quality.n_left_out < FEW:
        return f"{more}; {counted(quality.n_left_out, 'structure')} left out: too few to judge other remedies"
    if (said := _noise_in_the_way(quality, config)) is not None:
        return said
    larger = _larger(None if config.terms else config.preset or "balanced")
    if share < DATA:
        return f"what helps most: {more}"
    if share > MODEL:
        return (
            f"what helps most: {larger}; errors are nearly as large on the training data, so more data alone cannot reduce "
            f"them below {quality.training:.3g} {UNITS[quality.kind]} (rule of thumb; `mlpot compare` measures it)"
        )
    return f"what helps: {more}, or {larger}"


def _larger(preset: str | None) -> str:
    """Advice for a more flexible model."""
    if preset in LARGER:
        return f'preset = "{LARGER[preset]}"'
    if preset == "accurate":
        return "tuning (tune = true in [fit], a longer cutoff), unless the labels themselves are this noisy"
    return 'another model (preset = "accurate", more sparse points, a longer cutoff, tune = true in [fit])'


def _left_out(quality: LabelQuality) -> float:
    """RMS error of the structures that were left out, in `UNITS`."""
    return required(quality.left_out, f"{quality.kind}: error of structures left out")


def _noise_in_the_way(quality: LabelQuality, config: FitConfig) -> str | None:
    """Advice if a noise given by the user differs much from the residuals of the fit; None otherwise."""
    noise = config.force_noise if quality.kind == "forces" else config.energy_noise
    key = "force_noise" if quality.kind == "forces" else "energy_noise"
    if not isinstance(noise, float | int) or key in (config.adapt or ()) or config.tune:
        return None
    left = quality.training if quality.kind == "forces" else quality.training * MILLI
    if noise < FAR * left and (quality.training > 0.5 * _left_out(quality) or noise * FAR > left):
        return None
    return (
        f"what helps most: tuning; {key} = {noise:g} is far from the training error, {left:.3g}; "
        f"leave {key} out, so that it is determined by the data, or set tune = true in [fit]"
    )


def _unlike(quality: LabelQuality, test: Errors | None) -> list[str]:
    """A line if the test structures differ in kind from the training data; empty otherwise."""
    tested = None if test is None else rms_errors(test)[quality.kind]
    if tested is None or tested < UNLIKE * _left_out(quality):
        return []
    return [
        f"the test structures are unlike the training data: their errors are {tested / _left_out(quality):.1f} times the "
        "leave-out errors of training structures; add structures like them"
    ]
