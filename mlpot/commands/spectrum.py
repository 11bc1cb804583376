"""`mlpot spectrum`: infrared and Raman spectra of a run, by the dipoles and polarisabilities that its model predicts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..errors import ConfigError, counted
from .console import TrustBaseline, bars, check_plot, check_target, console, progress

if TYPE_CHECKING:
    from ..analysis.spectra import Spectrum, Windows
    from ..analysis.trajectories import Track
    from ..models.tensors import TargetModels

SHOWN = 0.05
"""Height of the peaks in the output, relative to the highest."""


def spectrum(
    run: Annotated[Path, typer.Argument(help="The folder of a learning run, or a trajectory (with --model and --timestep).")],
    model: Annotated[
        Path | None, typer.Option(help="A model file with a dipole or a polarisability; by default the model of the run.")
    ] = None,
    timestep: Annotated[float | None, typer.Option(help="Time between frames in fs; by default from the log of the run.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the nuclei in K; by default from the velocities in the trajectory.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Width at half maximum of a sharp line in 1/cm; 10, or what four windows allow, by default.")
    ] = None,
    skip: Annotated[float, typer.Option(help="Time in ps to leave out at the start.")] = 0.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write spectra, errors, windows and peaks to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the spectra with error bands into this file.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the spectra as columns to this CSV file.")] = None,
    trust_baseline: TrustBaseline = False,
) -> None:
    """Infrared and Raman spectra with error bands, from dipoles and polarisabilities along a trajectory.

    Nuclei are classical, or beads of ring polymers. Errors are statistical (scatter between windows) and of the model (its ensemble).
    """
    from ..analysis.spectra import windows_for
    from ..analysis.trajectories import tracks_of
    from ..durable import write_text

    for option, file in (("--json", json_file), ("--output", output)):
        check_target(option, file)
    check_plot("--plot", plot)
    for name, value in (("timestep", timestep), ("temperature", temperature), ("resolution", resolution)):
        if value is not None and not 0 < value < np.inf:
            raise ConfigError(f"--{name} {value:g}: must be a positive number")
    if not 0 <= skip < np.inf:
        raise ConfigError(f"--skip {skip:g}: must be zero or a positive number of ps")
    models = _models(run, model, trust_baseline)
    tracks = tracks_of(run, timestep, skip)
    kelvin = _temperature(tracks, temperature)
    windows = windows_for([len(track.frames) - 4 for track in tracks], tracks[0].timestep_fs, resolution)
    for name in ("dipole", "polarizability"):
        if name in models and (errors := models[name].left_out) is not None:
            unit = models[name].target.unit
            of = f"{counted(errors.n, 'structure')} left out of the fit"
            console.print(f"{name}: RMS error {errors.rmse:.3g} {unit} of {of}", markup=False)
    found = _spectra(models, tracks, windows, kelvin)
    _say(found, windows, kelvin, tracks)
    if json_file:
        write_text(json_file, json.dumps(_as_json(found, windows, kelvin, tracks), indent=1))
    if output:
        write_text(output, _columns(found))
    if plot:
        from ..analysis.spectrum_plot import spectrum_figure
        from ..report.plots import save

        save(spectrum_figure(found), plot)


def _models(run: Path, model: Path | None, trust_baseline: bool) -> TargetModels:
    """The targets of a model file; ConfigError if there is nothing to make a spectrum of."""
    from ..learning.campaign import MODEL_FILE
    from ..models.files import load_any
    from ..models.tensors import TargetModels

    if not run.exists():
        raise ConfigError(f"{run}: there is no such run folder or trajectory; check the path")
    if model is None and not run.is_dir():
        raise ConfigError(f"{run}: a trajectory has no model of its own; give --model")
    file = model or run / MODEL_FILE
    potential = load_any(file, trust_baseline)
    models = potential if isinstance(potential, TargetModels) else potential.targets
    if not {"dipole", "polarizability"} & set(models):
        there = ", ".join(models) or "no targets"
        raise ConfigError(
            f'{file}: has {there}, but a spectrum needs a dipole or a polarizability; add [[targets]] name = "dipole" to the file of '
            "the run or of the fit"
        )
    return models


def _temperature(tracks: list[Track], given: float | None) -> float:
    known = [track.temperature for track in tracks if track.temperature]
    if given is None and len(known) < len(tracks):
        raise ConfigError(f"{tracks[0].name}: has no velocities, so its temperature is unknown; give --temperature, in K")
    return given if given is not None else float(np.mean(known))


def _spectra(models: TargetModels, tracks: list[Track], windows: Windows, kelvin: float) -> list[Spectrum]:
    """Infrared for a dipole, Raman for a polarisability."""
    from ..analysis.spectra import infrared, raman
    from ..analysis.trajectories import derivatives_of

    found, by_velocities = [], all(track.has_velocities for track in tracks)
    with bars() as shown:
        show = progress(shown)
        for name, make in (("dipole", infrared), ("polarizability", raman)):
            if name in models:
                own = [derivatives_of(models[name], track, by_velocities, partial(show, f"{name} {track.name}")) for track in tracks]
                found.append(make(own, windows, kelvin))
    return found


def _say(found: list[Spectrum], windows: Windows, kelvin: float, tracks: list[Track]) -> None:
    how = "velocities and derivatives of the model" if tracks[0].has_velocities else "differences in time"
    length = windows.length * windows.timestep_fs / 1000.0
    n_beads = len(tracks[0].beads)
    polymers = f"means over {n_beads} beads, " if n_beads > 1 else ""
    console.print(
        f"{polymers}{sum(len(track.frames) for track in tracks)} frames every {windows.timestep_fs:g} fs, {kelvin:.4g} K; "
        f"{counted(found[0].n_windows, 'Hann window')} of {length:.3g} ps, half overlapping: lines are "
        f"{windows.resolution:.3g} 1/cm wide; up to {windows.highest:.0f} 1/cm; derivatives by {how}",
        markup=False,
    )
    for one in found:
        said = ", ".join(f"{at:.0f}" for at in one.peaks(SHOWN)) or "no wavenumber"
        unit = one.unit.removesuffix(" per 1/cm")
        console.print(f"{one.kind}: peaks at {said} 1/cm; integral {one.integral:.4g} {unit}", markup=False)


def _as_json(found: list[Spectrum], windows: Windows, kelvin: float, tracks: list[Track]) -> dict[str, Any]:
    from ..analysis.spectra import absorption_coefficient

    known: dict[str, Any] = {
        "temperature_K": kelvin, "timestep_fs": windows.timestep_fs, "n_frames": [len(track.frames) for track in tracks],
        "n_beads": len(tracks[0].beads), "window": "hann", "window_frames": windows.length, "overlap": 0.5,
        "resolution_per_cm": windows.resolution,
        "derivatives": "velocities" if tracks[0].has_velocities else "differences", "n_windows": found[0].n_windows,
    }  # fmt: skip
    first = tracks[0].frames[0]
    for one in found:
        known[one.kind] = {
            "unit": one.unit, "wavenumbers_per_cm": one.wavenumbers.tolist(), "values": one.values.tolist(),
            "statistical_std": None if one.statistical is None else one.statistical.tolist(),
            "model_std": None if one.model is None else one.model.tolist(), "peaks_per_cm": one.peaks(), "integral": one.integral,
        }  # fmt: skip
        if one.kind == "infrared" and first.pbc.all():
            volume = float(np.mean([atoms.get_volume() for track in tracks for atoms in track.frames]))
            known[one.kind]["absorption_coefficient_times_index_per_cm"] = absorption_coefficient(one, volume).tolist()
    return known


def _columns(found: list[Spectrum]) -> str:
    """CSV: wavenumbers, and for each spectrum its values and errors."""
    heads, columns = ["wavenumber_per_cm"], [found[0].wavenumbers]
    for one in found:
        empty = np.full(len(one.values), np.nan)
        heads += [one.kind, f"{one.kind}_statistical_std", f"{one.kind}_model_std"]
        columns += [one.values, *(empty if errors is None else errors for errors in (one.statistical, one.model))]
    rows = [",".join(f"{value:.8g}" for value in row) for row in np.column_stack(columns)]
    return "\n".join([",".join(heads), *rows]) + "\n"
