"""Trajectories for spectra: frames at even times, of run folders and files, and what a model predicts along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ..errors import ConfigError, DataError, RunFolderError
from ..learning.log_format import LOG, TRAJECTORY
from ..models.tensors import TargetModel
from ..report.log_file import read_log
from ..structures import read_structures
from .spectra import Derivatives, difference

EVEN = 1e-6
"""Relative tolerance of time steps that are equal."""


@dataclass(frozen=True)
class Track:
    """A trajectory.

    Parameters
    ----------
    name : str
        Of the file.
    beads : list of lists of ase.Atoms
        Frames at even times; of a ring polymer one list for each bead, in any order at each time, else a single one.
    timestep_fs : float
        Time between frames.
    temperature : float or None
        Mean of the kinetic energy, K; None without velocities.
    """

    name: str
    beads: list[list[Atoms]]
    timestep_fs: float
    temperature: float | None

    @property
    def frames(self) -> list[Atoms]:
        """Frames of the first bead."""
        return self.beads[0]

    @property
    def has_velocities(self) -> bool:
        """Whether all frames have momenta."""
        return all(atoms.has("momenta") for frames in self.beads for atoms in frames)


def tracks_of(source: Path, timestep_fs: float | None, skip_ps: float = 0.0) -> list[Track]:
    """Trajectories of a run folder, one for each walker, or of a structure file.

    Frames that a run wrote between the others, since they were labelled, are left out; beads of a ring polymer are put together.

    Parameters
    ----------
    source : Path
    timestep_fs : float or None
        Time between frames; from log.csv of a run when left out.
    skip_ps : float
        Time to leave out at the start of each.

    Raises
    ------
    ConfigError, RunFolderError, DataError
        No trajectory, no time step, uneven time steps, other atoms, or frames of other kinds of structures.
    """
    if not source.is_dir():
        if timestep_fs is None:
            raise ConfigError(f"{source}: the time between frames is unknown; give --timestep, in fs")
        return [_track(source.name, [read_structures(source)], timestep_fs, skip_ps)]
    files = sorted(source.glob(f"{TRAJECTORY}*.xyz"))
    if not files:
        raise RunFolderError(f"{source}: holds no {TRAJECTORY}.xyz; name the folder of a learning run, or a trajectory with --model")
    log = read_log(source / LOG)
    found = []
    for file in files:
        beads = by_bead(read_structures(file), file.name)
        step = timestep_fs or _logged_step(log, file, beads[0])
        found.append(_track(file.name, beads, step, skip_ps))
    if len({round(track.timestep_fs, 9) for track in found}) > 1:
        raise DataError(f"{source}: walkers have different time steps; name the trajectory of one of them, with --model")
    return found


def by_bead(frames: list[Atoms], name: str) -> list[list[Atoms]]:
    """Frames of every bead of a run at multiples of its interval; DataError where one of them is missing.

    The first step is left out where all beads still lie on top of each other, for then it was evaluated and written once.
    """
    numbers = [int(atoms.info.get("bead", 0)) for atoms in frames]
    beads = [on_grid([a for a, own in zip(frames, numbers, strict=True) if own == bead], name) for bead in sorted(set(numbers))]
    steps = [[int(atoms.info["step"]) for atoms in own] for own in beads]
    first = max(own[0] for own in steps)
    if any([step for step in own if step >= first] != steps[-1] for own in steps):
        raise DataError(f"{name}: some steps lack some of the {len(beads)} beads; leave out what is before or after them")
    return [[atoms for atoms in own if int(atoms.info["step"]) >= first] for own in beads]


def on_grid(frames: list[Atoms], name: str) -> list[Atoms]:
    """Frames at multiples of the interval of a run; DataError where one of them is missing."""
    if any("step" not in atoms.info for atoms in frames):
        raise DataError(f"{name}: frames have no step; give a trajectory of a learning run")
    steps = np.array([int(atoms.info["step"]) for atoms in frames])
    regular = [k for k, atoms in enumerate(frames) if not int(atoms.info.get("labelled", 0))] or range(len(frames))
    differences = np.diff(steps[regular])
    interval = int(np.gcd.reduce(differences)) if len(differences) else 1
    kept = [k for k in range(len(frames)) if (steps[k] - steps[regular[0]]) % max(interval, 1) == 0]
    uneven = np.flatnonzero(np.diff(steps[kept]) != interval)
    if len(uneven):
        a, b = steps[kept][uneven[0]], steps[kept][uneven[0] + 1]
        raise DataError(f"{name}: uneven time steps: step {a} is followed by {b} instead of {a + interval}; leave out what is before")
    return [frames[k] for k in kept]


def _logged_step(log: dict[str, np.ndarray], file: Path, frames: Sequence[Atoms]) -> float:
    """Time between frames according to log.csv, fs."""
    walker = file.stem.removeprefix(TRAJECTORY).removeprefix("_")
    own = log["walker"] == walker if walker else np.ones(len(log["step"]), bool)
    times = dict(zip(log["step"][own].astype(int).tolist(), log["time_fs"][own].tolist(), strict=True))
    at = np.array([times.get(int(atoms.info["step"]), np.nan) for atoms in frames])
    steps = np.diff(at)
    if not len(steps) or not np.all(np.isfinite(steps)):
        raise ConfigError(f"{file}: log.csv does not have the times of its frames; give the time between them with --timestep, in fs")
    if np.abs(steps - steps[0]).max() > EVEN * abs(steps[0]) + 1e-9 * at[-1]:
        raise DataError(f"{file}: uneven time steps, from {steps.min():g} to {steps.max():g} fs; a spectrum needs even ones")
    return float(np.mean(steps))


def _track(name: str, beads: list[list[Atoms]], timestep_fs: float, skip_ps: float) -> Track:
    beads = [frames[int(np.ceil(skip_ps * 1000.0 / timestep_fs)) :] for frames in beads]
    if len(beads[0]) < 2:
        raise DataError(f"{name}: {len(beads[0])} frames are left after --skip; a spectrum needs a trajectory")
    if any(not np.array_equal(atoms.numbers, beads[0][0].numbers) for frames in beads for atoms in frames):
        raise DataError(f"{name}: its frames are different molecules or orders of atoms; a spectrum needs one trajectory")
    track = Track(name, beads, timestep_fs, None)
    if not track.has_velocities or len(beads) > 1:  # the kinetic energy of a bead is not that of an atom
        return track
    return Track(name, beads, timestep_fs, float(np.mean([atoms.get_temperature() for atoms in track.frames])))


def derivatives_of(model: TargetModel, track: Track, by_velocities: bool, progress: Callable[[int, int], None]) -> Derivatives:
    """Time derivatives of a target along a trajectory, and of the members of the model's ensemble.

    By velocities: the sum of the derivatives with respect to positions (Born charges) times velocities. Members differ from the
    prediction by differences in time of their deviations, which are small. Of a ring polymer means over the beads are taken, whose
    correlation function approximates Kubo's (Craig, Manolopoulos, J. Chem. Phys. 121, 3368 (2004), doi:10.1063/1.1777575).
    """
    values, members, rates = [], [], []
    for k, beads in enumerate(zip(*track.beads, strict=True)):
        found = [model.predict(atoms, gradients=by_velocities, members=True) for atoms in beads]
        values.append(np.mean([p.value for p in found], axis=0))
        members.append(np.mean([np.asarray(p.members) - p.value for p in found], axis=0))
        if by_velocities:
            own = [np.einsum("ia,ia...->...", a.get_velocities(), np.asarray(p.gradients)) for a, p in zip(beads, found, strict=True)]
            rates.append(np.mean(own, axis=0))
        progress(k + 1, len(track.frames))
    rate = np.array(rates)[2:-2] if by_velocities else difference(np.array(values), track.timestep_fs)
    deviations = np.moveaxis(difference(np.array(members), track.timestep_fs), 1, 0)
    return Derivatives(rate, rate + deviations, not by_velocities)
