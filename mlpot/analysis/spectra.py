"""Infrared and Raman spectra from derivatives of dipoles and polarisabilities along a trajectory.

The spectrum of a quantity x is the Fourier transform of the correlation function of its time derivative, estimated from windowed
segments (Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967), doi:10.1109/TAU.1967.1161901) and normalised so that

    integral_0^inf S(nu) dnu = <|dx/dt|^2>

With classical nuclei, infrared absorption is N_A / (12 eps0 c^2) S(nu) / kT (Thomas, Brehm, Fligg, Voehringer and Kirchner, Phys.
Chem. Chem. Phys. 15, 6608 (2013), doi:10.1039/c3cp44302g), whose integral over a harmonic band is its intensity in km/mol. Raman
activity is the same of 45 a'^2 + 7 gamma'^2, with a third of the trace and the anisotropy of the polarisability's derivative, in
A^4/amu; factors of a laser's frequency and of the temperature are left to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal.windows import hann

from ..errors import DataError
from ..units import AVOGADRO, BOLTZMANN, FEMTOSECOND, KM_PER_MOL, LIGHT

FINEST = 10.0
"""Resolution (1/cm) that is not exceeded unless it is asked for."""
LOBE = 1.44
"""Full width at half maximum of the line of a window, in units of 1 / length of the window."""
SEGMENTS, FEWEST = 4, 32
"""Independent windows into which a trajectory is divided at least, and smallest number of frames in a window."""
PAD = 4
"""Points of the spectrum for each that is independent: zeros are appended to windows."""
OVERLAP = 1.056
"""Variance of a mean over half-overlapping Hann windows times their number, relative to independent ones: 1 + 2 / 36."""
PER_CM = 1.0 / (100.0 * LIGHT * 1e-15)
"""Wavenumber (1/cm) of a frequency of 1/fs."""


@dataclass(frozen=True)
class Windows:
    """Division of trajectories into windows.

    Parameters
    ----------
    length : int
        Frames in a window.
    timestep_fs : float
        Time between frames.
    """

    length: int
    timestep_fs: float

    @property
    def resolution(self) -> float:
        """Full width at half maximum of a sharp line, 1/cm."""
        return LOBE * PER_CM / (self.length * self.timestep_fs)

    @property
    def highest(self) -> float:
        """Highest wavenumber, 1/cm: half of the one at which a period is two frames."""
        return PER_CM / (4.0 * self.timestep_fs)


@dataclass(frozen=True)
class Spectrum:
    """A spectrum with its errors.

    Parameters
    ----------
    kind, unit : str
        "infrared", "km/mol per 1/cm"; or "raman", "A^4/amu per 1/cm".
    wavenumbers : (n,) array
        1/cm.
    values : (n,) array
    statistical : (n,) array or None
        Standard errors from the scatter between windows; None for fewer than three windows.
    model : (n,) array or None
        Standard deviations from the members of the model's ensemble.
    n_windows : int
    """

    kind: str
    unit: str
    wavenumbers: np.ndarray
    values: np.ndarray
    statistical: np.ndarray | None
    model: np.ndarray | None
    n_windows: int

    @property
    def integral(self) -> float:
        """Integral over all wavenumbers, km/mol or A^4/amu."""
        return float(np.sum(self.values) * (self.wavenumbers[1] - self.wavenumbers[0]))

    def peaks(self, share: float = 0.02) -> list[float]:
        """Wavenumbers of local maxima above a share of the highest, by a parabola through three
        logarithms, 1/cm."""
        v, found = self.values, []
        for k in range(1, len(v) - 1):
            if v[k] > v[k - 1] and v[k] >= v[k + 1] and v[k] > share * v.max():
                a, b, c = np.log(v[k - 1 : k + 2])
                shift = 0.5 * (a - c) / (a - 2 * b + c)
                found.append(float(self.wavenumbers[k] + shift * (self.wavenumbers[1] - self.wavenumbers[0])))
        return found


def windows_for(n_frames: Sequence[int], timestep_fs: float, resolution: float | None = None) -> Windows:
    """Windows for trajectories of these lengths: a resolution of `FINEST`, or what four windows in the longest one allow.

    Raises
    ------
    DataError
        If a trajectory is shorter than a window of the resolution that is asked for, or much too short.
    """
    longest = max(n_frames)
    wanted = int(np.ceil(LOBE * PER_CM / ((resolution or FINEST) * timestep_fs)))
    length = wanted if resolution is not None else min(wanted, longest // SEGMENTS)
    if length < FEWEST:
        needed = f"{SEGMENTS * FEWEST} frames, better {SEGMENTS * wanted} ({SEGMENTS * wanted * timestep_fs / 1000:.3g} ps)"
        raise DataError(f"spectrum: the longest trajectory has {longest} frames, which is too short; give at least {needed}")
    if min(n_frames) < length:
        raise DataError(
            f"spectrum: a resolution of {resolution or FINEST:g} 1/cm needs {length} frames ({length * timestep_fs / 1000:.3g} ps), "
            f"a trajectory has {min(n_frames)}; increase --resolution, or run longer"
        )
    return Windows(length, timestep_fs)


def _power(x: np.ndarray, windows: Windows) -> np.ndarray:
    """Power spectra (n_segments, PAD length // 2 + 1) of a signal (n_frames, n_components), summed over components, per 1/cm."""
    n, step, taper = windows.length, windows.length // 2, hann(windows.length, sym=False)
    segments = np.stack([x[a : a + n] for a in range(0, len(x) - n + 1, step)])
    amplitudes = np.fft.rfft(segments * taper[:, None], PAD * n, axis=1)
    power = 2.0 * np.sum(np.abs(amplitudes) ** 2, axis=2) * windows.timestep_fs / np.sum(taper**2) / PER_CM
    power[:, 0] /= 2.0  # its mirror image is itself
    return power


def difference(x: np.ndarray, timestep_fs: float) -> np.ndarray:
    """Time derivative (n - 4, ...) of a signal (n, ...) by central differences of fourth order, in 1 / (ASE's time)."""
    inner = (8.0 * (x[3:-1] - x[1:-3]) - (x[4:] - x[:-4])) / 12.0
    return inner / (timestep_fs * FEMTOSECOND)


def response(wavenumbers: np.ndarray, timestep_fs: float) -> np.ndarray:
    """Factor by which `difference` changes the derivative of an oscillation."""
    angle = 2.0 * np.pi * np.asarray(wavenumbers, float) / PER_CM * timestep_fs
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(angle > 0, (8.0 * np.sin(angle) - np.sin(2.0 * angle)) / (6.0 * angle), 1.0)


@dataclass(frozen=True)
class Derivatives:
    """Time derivatives along one trajectory.

    Parameters
    ----------
    values : (n, n_components) array
        In 1 / (ASE's time).
    members : (n_members, n, n_components) array
        Of the members of an ensemble.
    by_differences : bool
        Whether they are differences, whose `response` is corrected.
    """

    values: np.ndarray
    members: np.ndarray
    by_differences: bool


def _spectrum(kind: str, unit: str, factor: float, tracks: Sequence[Derivatives], windows: Windows) -> Spectrum:
    """The spectrum of trajectories, all windows with the same weight."""
    wavenumbers = np.fft.rfftfreq(PAD * windows.length, windows.timestep_fs) * PER_CM
    kept = wavenumbers <= windows.highest
    scale = np.full(len(wavenumbers), factor)
    if tracks[0].by_differences:
        scale[kept] /= response(wavenumbers[kept], windows.timestep_fs) ** 2
    power = np.concatenate([_power(track.values, windows) for track in tracks])[:, kept] * scale[kept]
    values, n = power.mean(axis=0), len(power)
    statistical = np.sqrt(power.var(axis=0, ddof=1) * OVERLAP / n) if n > 2 else None
    model = None
    if n_members := len(tracks[0].members):
        of_members = [
            np.concatenate([_power(track.members[m], windows) for track in tracks]).mean(axis=0)[kept] * scale[kept]
            for m in range(n_members)
        ]
        model = np.sqrt(np.mean((np.array(of_members) - values) ** 2, axis=0))
    return Spectrum(kind, unit, wavenumbers[kept], values, statistical, model, n)


def infrared(tracks: Sequence[Derivatives], windows: Windows, temperature: float) -> Spectrum:
    """Absorption from derivatives (n, 3) of dipoles, e A / (ASE's time), at a temperature in K."""
    return _spectrum("infrared", "km/mol per 1/cm", KM_PER_MOL / (BOLTZMANN * temperature), tracks, windows)


def raman(tracks: Sequence[Derivatives], windows: Windows, temperature: float) -> Spectrum:
    """Activity from derivatives (n, 3, 3) of polarisabilities, A^3 / (ASE's time), at a temperature in K."""
    weighted = [Derivatives(_weighted(t.values), _weighted(t.members), t.by_differences) for t in tracks]
    return _spectrum("raman", "A^4/amu per 1/cm", 1.0 / (BOLTZMANN * temperature), weighted, windows)


def _weighted(tensors: np.ndarray) -> np.ndarray:
    """Components (..., 10) of matrices (..., 3, 3) whose sum of squares is 45 a^2 + 7 gamma^2.

    a is a third of the trace, gamma^2 = 3/2 of the sum of squares of the rest.
    """
    mean = np.trace(tensors, axis1=-2, axis2=-1)[..., None] / 3.0
    rest = tensors - mean[..., None] * np.eye(3)
    return np.concatenate([np.sqrt(45.0) * mean, np.sqrt(10.5) * rest.reshape(*rest.shape[:-2], 9)], axis=-1)


def absorption_coefficient(spectrum: Spectrum, volume: float) -> np.ndarray:
    """Absorption coefficient times index of refraction (n,), 1/cm (natural logarithm), of a periodic cell of a volume in A^3."""
    return spectrum.values * 1e5 / (AVOGADRO * volume * 1e-24)
