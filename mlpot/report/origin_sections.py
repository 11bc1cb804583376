"""Sections of the report of a run on where it went: origin of labels, map of environments, fresh labels, structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..data.reading import read_labelled
from ..errors import DataError, counted
from ..models.evaluate import evaluate
from ..structures import all_labelled
from ..terms.layout import many_body
from .environment_map import environment_map
from .frames import sampled_frames
from .html import captioned, table, warning
from .origin_plots import atoms_figure, map_figure, radial_figure
from .plots import image, parity_figure
from .radial import RadialDistribution, radial_distributions
from .run_data import Run, RunWalker, element_counts
from .run_plots import KINDS
from .tables import ERROR_HEADS, error_rows

SMALL = 400
"""Atoms of which each is shown by itself."""
MAP_FRAMES, RADIAL_FRAMES = 120, 200
"""Frames of all trajectories on a map; of each trajectory in a radial distribution."""
CHECK_FILE = "check.xyz"
MAP_ELEMENTS = 6


def origin_section(run: Run) -> list[str]:
    """Walkers and atoms from which labels originated."""
    reasons = [r for r in (*KINDS, "not learned") if any(label.reason == r for label in run.labels)]
    counts = Counter((label.walker, label.reason) for label in run.labels)
    walkers = dict.fromkeys([walker.name for walker in run.walkers] + [label.walker for label in run.labels])
    rows = [(name, *(counts[name, r] for r in reasons), sum(counts[name, r] for r in reasons)) for name in walkers]
    content = [table(rows, ("walker", *reasons, "all"), "origins")]
    elements = element_counts(run.labels)
    if elements:
        n_labels, n_atoms = (sum(part) for part in zip(*elements.values(), strict=True))
        rows = [
            (chemical_symbols[z], worst, f"{100 * worst / n_labels:.0f} %", f"{100 * present / n_atoms:.0f} %")
            for z, (worst, present) in elements.items()
        ]
        heads = ("element", "labels where this element was least certain", "fraction of labels", "fraction of atoms")
        content.append(table(rows, heads, "elements"))
    return content + [figure for walker in run.walkers if (figure := _atoms(run, walker))]


def _atoms(run: Run, walker: RunWalker) -> str | None:
    """Number of times each atom of a small walker was the least certain one."""
    worst = [
        label.least_certain for label in run.labels
        if label.walker == walker.name and label.was_predicted and label.least_certain is not None
    ]  # fmt: skip
    if walker.numbers is None or len(walker.numbers) > SMALL or not worst:
        return None
    counts = np.bincount(worst, minlength=len(walker.numbers))
    symbols = [chemical_symbols[z] for z in walker.numbers]
    return captioned(
        image(atoms_figure(counts, symbols), f"least certain atoms of {walker.name}"),
        f"Walker {walker.name}: how often each atom was the least certain one.",
    )


def map_section(run: Run) -> list[str]:
    """The map of environments of every element."""
    if run.model is None or not run.labels:
        return []
    terms = list(many_body(run.model.terms).values())
    if not terms:
        return []
    # densities of the widest reach say most about an environment
    term = max(terms, key=lambda found: found.cutoff)
    labels = [label.atoms for label in run.labels]
    least = [label.least_certain if label.was_predicted else None for label in run.labels]
    per_walker = max(MAP_FRAMES // len(run.walkers), 4)
    visited = [atoms for walker in run.walkers for atoms in _frames(walker, per_walker)]
    maps = [environment_map(term, z, labels, least, visited) for z in run.model.species[:MAP_ELEMENTS]]
    found = [one for one in maps if one is not None]
    if not found:
        return []
    return [
        captioned(
            image(map_figure(found), "map of environments"),
            "Every point is the environment of an atom; points are close where the kernel of the model finds environments "
            "alike (its first two principal components, with the part of the variance that they show). Grey where the "
            "simulations were, in colour what was labelled: grey regions without colour are extrapolated to.",
        )
    ]


def _frames(walker: RunWalker, number: int) -> list[Atoms]:
    return sampled_frames(walker.trajectory, number) if walker.trajectory.exists() else []


def check_section(run: Run) -> list[str]:
    """Errors on labels that were made afterwards, where there are any."""
    file = run.folder / CHECK_FILE
    if run.model is None or not file.exists():
        return []
    try:
        structures = all_labelled(read_labelled(file).frames, str(file))
    except DataError as error:  # the page is about the run; this file is not part of it
        return [warning(str(error))]
    found = evaluate(run.model, [replace(s, config_type=CHECK_FILE) for s in structures])
    named = ("force_coverage_1_sigma", "force_coverage_2_sigma", "force_expected_normalised_error")
    words = ("force components within 1 σ", "within 2 σ", "expected normalised error")
    rows = [
        (word, "-" if found.calibration[name] is None else f"{found.calibration[name]:.3f}")
        for word, name in zip(words, named, strict=True)
    ]
    return [
        captioned(
            image(parity_figure(found.comparisons), "errors on fresh labels"),
            f"The present model on the {counted(len(structures), 'structure')} of {CHECK_FILE}, which it has not learned.",
        ),
        table(error_rows(found.per_config_type.items()), ERROR_HEADS, "check"),
        table(rows, name="check-calibration"),
    ]


def radial_section(run: Run, references: Sequence[Path]) -> list[str]:
    """Radial distributions of the trajectories and of references."""
    if not references:
        return []
    theirs = {file.name: _radial(sampled_frames(file, RADIAL_FRAMES), file) for file in references}
    ours = {
        walker.name: _radial(frames, walker.trajectory)
        for walker in run.walkers
        if (frames := _frames(walker, RADIAL_FRAMES))
    }
    rows = [
        (name, reference, "–".join(chemical_symbols[z] for z in pair), *_differences(found[pair], known[pair]))
        for reference, known in theirs.items()
        for name, found in ours.items()
        for pair in sorted(set(found) & set(known))
    ]
    heads = (
        "walker",
        "reference",
        "pair",
        "highest peak Å",
        "reference Å",
        "its height",
        "reference",
        "RMS difference",
    )
    return [
        captioned(
            image(radial_figure(ours, theirs), "radial distribution functions"),
            f"Averages of {RADIAL_FRAMES} evenly spaced frames at most; compare runs of the same temperature and density.",
        ),
        table(rows, heads, "radial"),
    ]


def _radial(frames: Sequence[Atoms], file: Path) -> dict[tuple[int, int], RadialDistribution]:
    if not frames:
        raise DataError(f"{file}: holds no whole frame of an extended XYZ file; name a trajectory")
    return radial_distributions(frames)


def _differences(ours: RadialDistribution, theirs: RadialDistribution) -> tuple[str, ...]:
    """Place and height of the highest peaks, and the root mean square difference over all distances."""
    k, m = int(np.argmax(ours.values)), int(np.argmax(theirs.values))
    difference = float(np.sqrt(np.mean((ours.values - theirs.values) ** 2)))
    return (
        f"{ours.radii[k]:.3f}", f"{theirs.radii[m]:.3f}", f"{ours.values[k]:.3f}", f"{theirs.values[m]:.3f}",
        f"{difference:.3f}",
    )  # fmt: skip
