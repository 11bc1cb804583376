"""Rows and bounds of `honesty.py`: results as text, and which of the requirements they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from honesty_judge import TARGET
from honesty_systems import SHIPPED

Record = dict
"""Results of one task: of a run with a seed, of a tool without."""
ADSORBATE = "CO/Cu(111)"
COVERAGE = (0.50, 0.90)
RUN_HEADS = (
    "system", "seed", "labels", "RMS", "2nd half", "said", "> 2 x said", "worst > 3 sigma", "1 sigma", "2 sigma", "verdict",
    "honest", "s, run and judge",
)  # fmt: skip
TOOL_HEADS = ("tool", "found", "true", "largest error", "labels", "within bounds")
BOUND_HEADS = ("bound", "must", "found", "met")


@dataclass(frozen=True)
class Bound:
    """A requirement on all runs, or all tools, together.

    Parameters
    ----------
    name, must : str
        What is measured, and what it has to be, in words.
    of : callable
        From the finished records of runs to what was found, in words, and whether that is enough; None without such runs.
    """

    name: str
    must: str
    of: Callable[[Sequence[Record]], tuple[str, bool] | None]


def run_row(record: Record) -> str:
    """A run as a row of a table."""
    head = f"| {record['name']} | {record['seed']} |"
    if "failed" in record:
        return f"{head} failed: {record['failed']} |"
    shares = [", ".join(f"{s} {v:.2f}" for s, v in record[f"coverage_{k}"].items()) for k in (1, 2)]
    values = [
        f"{record['labels']}", *(f"{record[key]:.3f}" for key in ("rms", "rms_second_half", "rms_said")),
        *(f"{record[key]:.2f}" for key in ("beyond_twice", "worst_beyond_3")), *shares,
        f"{record['status']}, {record['verdict']}", "yes" if record["honest"] else "**no**",
        f"{record['run_seconds']:.0f}, {record['judge_seconds']:.0f}",
    ]  # fmt: skip
    return f"{head} {' | '.join(values)} |"


def tool_row(record: Record) -> str:
    """A tool as rows of a table, one for each of its answers."""
    if "failed" in record:
        return f"| {record['name']} | failed: {record['failed']} |"
    rows = []
    for answer in record["answers"]:
        found, true = (_brief(answer[key]) for key in ("found", "true"))
        error = f"{answer['largest_error']:.4g} {answer['unit']}"
        met = "yes" if answer["met"] else "**no**"
        rows.append(
            f"| {record['name']}: {answer['quantity']} | {found} | {true} | {error} | {record['labels']} | {met} |"
        )
    return "\n".join(rows)


def table(heads: Sequence[str]) -> str:
    """The head of a Markdown table."""
    return f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"


def bound_rows(bounds: Sequence[Bound], records: Sequence[Record]) -> Iterator[str]:
    """Each requirement with what was found; a failed run or tool meets none."""
    failed = sorted({record["name"] for record in records if "failed" in record})
    finished = [record for record in records if "failed" not in record]
    runs = [record for record in finished if record["seed"] is not None and record["name"] not in SHIPPED]
    for bound in bounds:
        if runs and (found := bound.of(runs)) is not None:
            yield f"| {bound.name} | {bound.must} | {found[0]} | {'yes' if found[1] else '**no**'} |"
    for record in finished:
        if shipped := SHIPPED.get(record["name"]):
            met = "yes" if record["labels"] <= shipped.most_labels else "**no**"
            yield f"| {record['name']}: labels | <= {shipped.most_labels} | {record['labels']} | {met} |"
        for answer in record.get("answers", ()):
            met = "yes" if answer["met"] else "**no**"
            yield (
                f"| {record['name']}: {answer['quantity']} | within bounds | "
                f"off by up to {answer['largest_error']:.3g} {answer['unit']}, {record['labels']} labels | {met} |"
            )
    if failed:
        yield f"| runs and tools that end | all | failed: {', '.join(failed)} | **no** |"


def _shares(key: str, everywhere: float | None) -> Callable[[Sequence[Record]], tuple[str, bool]]:
    """Whether a fraction of frames is at most 0.05 in nine runs of ten, and at most `everywhere` in all."""

    def of(runs: Sequence[Record]) -> tuple[str, bool]:
        values = np.array([record[key] for record in runs])
        good, largest = float(np.mean(values <= 0.05)), float(values.max())
        return f"{good:.0%} of {len(runs)} runs; at most {largest:.2f}", good >= 0.9 and (
            everywhere is None or largest <= everywhere
        )

    return of


def _coverage(runs: Sequence[Record]) -> tuple[str, bool]:
    """Whether that of every element of every run is within bounds."""
    values = [(share, record["name"], symbol) for record in runs for symbol, share in record["coverage_1"].items()]
    outside = [value for value in values if not COVERAGE[0] <= value[0] <= COVERAGE[1]]
    text = f"{len(values) - len(outside)} of {len(values)}; from {min(values)[0]:.2f} to {max(values)[0]:.2f}"
    return text, not outside


def _honesty(runs: Sequence[Record]) -> tuple[str, bool]:
    """Whether all runs reach the target or admit that they do not, and nine of ten reach it."""
    reached = float(np.mean([record["rms_second_half"] <= TARGET for record in runs]))
    silent = sorted({record["name"] for record in runs if not record["honest"]})
    text = f"{reached:.0%} reach it" + (f"; neither: {', '.join(silent)}" if silent else "")
    return text, not silent and reached >= 0.9


def _adsorbate(runs: Sequence[Record]) -> tuple[str, bool] | None:
    """Whether CO/Cu(111) is learned with few labels."""
    if not (chosen := [record for record in runs if record["name"] == ADSORBATE]):
        return None
    errors, labels = ([record[key] for record in chosen] for key in ("rms_second_half", "labels"))
    text = f"{', '.join(f'{e:.2f}' for e in errors)} with {', '.join(map(str, labels))}"
    return text, max(errors) <= TARGET and max(labels) <= 25


def _brief(values: Sequence[float]) -> str:
    """A few numbers, or the range of many."""
    if len(values) > 3:
        return f"{min(values):.4g} ... {max(values):.4g}"
    return " ".join(f"{value:.4g}" for value in values)


BOUNDS = (
    Bound(
        "frames beyond twice what was said", "<= 0.05 in 90 % of runs, <= 0.10 in all", _shares("beyond_twice", 0.10)
    ),
    Bound("frames whose worst atom is beyond 3 sigma", "<= 0.05 in 90 % of runs", _shares("worst_beyond_3", None)),
    Bound("1-sigma coverage of each element", f"{COVERAGE[0]:.2f} to {COVERAGE[1]:.2f}", _coverage),
    Bound(f"RMS in the second half <= {TARGET} eV/A", "or the verdict says no, in all; true in 90 %", _honesty),
    Bound(f"{ADSORBATE}: RMS in the second half, labels", f"<= {TARGET} eV/A with <= 25", _adsorbate),
)
