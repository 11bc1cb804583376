"""Spectra against formulas: a harmonic oscillator's wavenumber and intensity, a rotor's, bands, windows, what cannot be used."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write
from polar_molecule import PolarMolecule
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from mlpot.analysis.spectra import Derivatives, absorption_coefficient, difference, infrared, raman, windows_for
from mlpot.analysis.trajectories import Track, by_bead, derivatives_of, on_grid
from mlpot.commands.main import app
from mlpot.errors import DataError
from mlpot.fitting.tensors import fit_targets
from mlpot.models.files import load_any
from mlpot.models.saving import save_targets
from mlpot.settings.targets import TargetsSettings

PER_CM = 2.99792458e-5
"""Speed of light in cm/fs."""
KM_PER_MOL = 974.88
"""42.2561 km/mol for (debye / A)^2 / amu (textbooks), and 4.80320 debye in e A: of one e^2 / amu."""
LENGTH, CHARGE, SPRING, TEMPERATURE = 0.95, 0.35, 30.0, 300.0
MASS = 1.008 * 18.998403163 / (1.008 + 18.998403163)
TERMS = [{"cutoff": 2.0, "n_max": 4, "l_max": 2, "n_invariants": 10}]


def oscillation(n, timestep, wavenumber, phase=0.0):
    return np.sin(2 * np.pi * PER_CM * wavenumber * timestep * np.arange(n) + phase)


@pytest.mark.parametrize("by_differences", [False, True])
def test_a_harmonic_oscillator(by_differences):
    """Of a reduced mass m with <m v^2> = kT and a dipole derivative q: a line of 42.26 q^2 / m km/mol."""
    n, timestep, wavenumber, mass, slope = 20000, 1.0, 3000.0, 1.5, 0.4
    speed = np.sqrt(2 * units.kB * TEMPERATURE / mass) * oscillation(n, timestep, wavenumber, np.pi / 2)
    rate = 2 * np.pi * PER_CM * wavenumber / units.fs
    place = np.sqrt(2 * units.kB * TEMPERATURE / mass) / rate * oscillation(n, timestep, wavenumber)
    x = np.stack([slope * place, 0 * place, 0 * place], axis=1)
    rates = difference(x, timestep) if by_differences else slope * np.stack([speed, 0 * speed, 0 * speed], axis=1)
    windows = windows_for([len(rates)], timestep, 20.0)
    found = infrared([Derivatives(rates, np.empty((0, *rates.shape)), by_differences)], windows, TEMPERATURE)
    assert found.peaks() == [pytest.approx(wavenumber, abs=0.2)]
    assert found.integral == pytest.approx(KM_PER_MOL * slope**2 / mass, rel=2e-3)
    half = found.wavenumbers[found.values > found.values.max() / 2]
    assert np.ptp(half) <= windows.resolution + 2 * (found.wavenumbers[1] - found.wavenumbers[0])
    assert found.model is None and found.statistical.shape == found.values.shape
    # Lambert and Beer with one molecule in 1000 A^3: integral in 1/cm^2 from km/mol by the concentration in mol/cm^3
    total = absorption_coefficient(found, 1000.0).sum() * (found.wavenumbers[1] - found.wavenumbers[0])
    assert total == pytest.approx(found.integral * 1e5 / 6.02214076e23 / 1e-21, rel=1e-6)


def test_raman_activity():
    """45 a'^2 + 7 gamma'^2 of an axial tensor with slopes (p, s, s): a' = (p + 2 s) / 3, gamma' = p - s."""
    n, p, s, mass = 20000, 1.3, 0.4, 2.0
    speed = np.sqrt(2 * units.kB * TEMPERATURE / mass) * oscillation(n, 1.0, 1500.0)
    turn = Rotation.random(random_state=0).as_matrix()
    rates = speed[:, None, None] * (turn @ np.diag([p, s, s]) @ turn.T)
    found = raman([Derivatives(rates, rates[None], False)], windows_for([n], 1.0), TEMPERATURE)
    assert found.integral == pytest.approx((45 * ((p + 2 * s) / 3) ** 2 + 7 * (p - s) ** 2) / mass, rel=2e-3)
    assert np.all(found.model == pytest.approx(0.0, abs=1e-12))


def test_bands():
    rng = np.random.default_rng(0)
    n, windows = 40000, windows_for([40000], 1.0, 100.0)
    x = rng.normal(size=(n, 3))
    members = x + 0.1 * rng.normal(size=(6, n, 3))
    found = infrared([Derivatives(x, members, False)], windows, TEMPERATURE)
    inner = slice(5, -5)
    scatter = found.values[inner].std() / found.values[inner].mean()  # white noise: the spectrum is flat
    assert np.mean(found.statistical[inner] / found.values[inner]) == pytest.approx(scatter, rel=0.25)
    assert 0.005 < np.mean(found.model / found.values) < 0.05


def test_what_is_too_short():
    with pytest.raises(DataError, match="too short; give at least 128 frames"):
        windows_for([100], 1.0)
    with pytest.raises(DataError, match="increase --resolution"):
        windows_for([2000], 1.0, 1.0)
    assert windows_for([2000], 1.0).length == 500
    assert windows_for([100000], 1.0).resolution == pytest.approx(10.0, rel=1e-3)


def numbered(steps, labelled=()):
    return [Atoms("H", info={"step": step, "labelled": int(step in labelled)}) for step in steps]


def test_labelled_frames_between_the_others_are_left_out():
    frames = on_grid(numbered([0, 7, 10, 13, 20, 30, 40], {0, 7, 13, 20}), "t.xyz")
    assert [atoms.info["step"] for atoms in frames] == [0, 10, 20, 30, 40]
    with pytest.raises(DataError, match="step 10 is followed by 30 instead of 20"):
        on_grid(numbered([0, 5, 10, 30, 40], {5}), "t.xyz")


def test_beads_of_a_step_belong_together():
    frames = []
    for step in (0, 10, 13, 20):
        for bead in (1,) if step == 13 else (0, 1):
            frames.append(Atoms("H", info={"step": step, "bead": bead, "labelled": int(step == 13)}))
    beads = by_bead(frames, "t.xyz")
    assert [[(atoms.info["bead"], atoms.info["step"]) for atoms in own] for own in beads] == [
        [(0, 0), (0, 10), (0, 20)], [(1, 0), (1, 10), (1, 20)]
    ]  # fmt: skip
    assert [[atoms.info["step"] for atoms in own] for own in by_bead([frames[0], *frames[2:]], "t.xyz")] == [[10, 20]] * 2
    with pytest.raises(DataError, match="some steps lack some of the 2 beads"):
        by_bead(frames[:-1], "t.xyz")


def hydrogen_fluoride(length=LENGTH):
    return Atoms("HF", positions=[[0, 0, 0], [0, 0, length]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Dipoles and polarisabilities of point charges and rods, learned."""
    frames = []
    for k, length in enumerate(np.linspace(0.8, 1.1, 12)):
        atoms = hydrogen_fluoride(length)
        atoms.positions = atoms.positions @ Rotation.random(random_state=k).as_matrix().T
        atoms.calc = PolarMolecule()
        atoms.get_forces()
        frames.append(atoms)
    targets = [{"name": "dipole", "terms": TERMS}, {"name": "polarizability", "unit": "A^3", "terms": TERMS}]
    file = tmp_path_factory.mktemp("model") / "m.h5"
    save_targets(fit_targets(frames, TargetsSettings(targets=targets)), file)
    return str(file)


def vibrating(n, timestep):
    """Exactly harmonic motion at 300 K: m <v^2> = kT; and its wavenumber."""
    rate = np.sqrt(SPRING / MASS)
    size = np.sqrt(2 * units.kB * TEMPERATURE / SPRING)
    frames = []
    for t in timestep * units.fs * np.arange(n):
        atoms = hydrogen_fluoride(LENGTH + size * np.sin(rate * t))
        speed = size * rate * np.cos(rate * t)
        atoms.positions[:, 2] -= atoms.get_center_of_mass()[2]
        atoms.set_velocities(np.array([[0, 0, -1], [0, 0, 1]]) * speed * MASS / atoms.get_masses()[:, None])
        frames.append(atoms)
    return frames, rate * units.fs / (2 * np.pi * PER_CM)


def command(*words):
    done = CliRunner().invoke(app, ["spectrum", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize("velocities", [True, False])
def test_hydrogen_fluoride_on_a_spring(tmp_path, model, velocities):
    frames, wavenumber = vibrating(600, 1.0)
    if not velocities:
        for atoms in frames:
            del atoms.arrays["momenta"]
    write(tmp_path / "t.xyz", frames)
    files = ["--json", tmp_path / "ir.json", "-o", tmp_path / "ir.csv", "--plot", tmp_path / "ir.png"]
    code, output = command(tmp_path / "t.xyz", "--model", model, "--timestep", 1, "--temperature", 300, *files)
    assert code == 0, output
    assert "Hann windows" in output and "of 12 structures left out" in output and (tmp_path / "ir.png").stat().st_size > 1000
    found = json.loads((tmp_path / "ir.json").read_text())
    assert found["derivatives"] == ("velocities" if velocities else "differences")
    assert found["infrared"]["peaks_per_cm"] == [pytest.approx(wavenumber, abs=2.0)]
    assert found["infrared"]["integral"] == pytest.approx(KM_PER_MOL * CHARGE**2 / MASS, rel=0.05)
    # the tensor is 2 + r r': its slope is 2 r along the bond
    assert found["raman"]["integral"] == pytest.approx((45 / 9 + 7) * (2 * LENGTH) ** 2 / MASS, rel=0.05)
    assert len(found["infrared"]["model_std"]) == len(found["infrared"]["values"])
    heads, *rows = (tmp_path / "ir.csv").read_text().splitlines()
    assert heads.split(",")[1:3] == ["infrared", "infrared_statistical_std"]
    assert len(rows) == len(found["infrared"]["values"])


@pytest.mark.parametrize("velocities", [True, False])
def test_of_a_ring_polymer_the_mean_over_the_beads_counts(model, velocities):
    """One that rests beside one that moves halves the rates."""
    first, _ = vibrating(60, 1.0)
    still = [hydrogen_fluoride() for _ in first]
    for atoms in still:
        atoms.set_velocities(np.zeros((2, 3)))
    dipole = load_any(model)["dipole"]
    alone, both = (
        derivatives_of(dipole, Track("t", beads, 1.0, None), velocities, lambda k, n: None) for beads in ([first], [first, still])
    )
    np.testing.assert_allclose(both.values, alone.values / 2, atol=1e-12)
    assert both.members.shape == alone.members.shape
    assert np.abs(both.members - alone.members / 2).max() < 1e-12


def test_a_rigid_rotor(tmp_path, model):
    """A dipole q r that rotates at w: one line at w of strength (q r w)^2 in units of kT."""
    n, timestep, wavenumber = 800, 4.0, 300.0
    rate, frames = 2 * np.pi * PER_CM * wavenumber / units.fs, []
    for t in timestep * units.fs * np.arange(n):
        atoms = hydrogen_fluoride()
        turn = Rotation.from_rotvec([rate * t, 0, 0]).as_matrix()
        atoms.positions = (atoms.positions - atoms.get_center_of_mass()) @ turn.T
        atoms.set_velocities(np.cross([rate, 0, 0], atoms.positions))
        frames.append(atoms)
    write(tmp_path / "t.xyz", frames)
    code, output = command(tmp_path / "t.xyz", "--model", model, "--timestep", timestep, "--json", tmp_path / "ir.json")
    assert code == 0, output
    found = json.loads((tmp_path / "ir.json").read_text())
    kinetic = 0.5 * MASS * (LENGTH * rate) ** 2
    assert found["temperature_K"] == pytest.approx(2 * kinetic / (6 * units.kB), rel=1e-4)
    assert found["infrared"]["peaks_per_cm"] == [pytest.approx(wavenumber, abs=1.0)]
    strength = KM_PER_MOL * (CHARGE * LENGTH * rate) ** 2 / (units.kB * found["temperature_K"])
    assert found["infrared"]["integral"] == pytest.approx(strength, rel=0.03)


def test_bad_input(tmp_path, model):
    frames, _ = vibrating(40, 1.0)
    file = tmp_path / "t.xyz"
    write(file, frames)
    for words, said in (
        ([tmp_path / "no"], "there is no such run folder or trajectory"),
        ([file], "give --model"),
        ([file, "--model", model], "give --timestep"),
        ([file, "--model", model, "--timestep", 1], "too short"),
        ([file, "--model", model, "--timestep", -1], "--timestep -1: must be a positive number"),
        ([file, "--model", model, "--timestep", 1, "--json", tmp_path / "no" / "a.json"], "its folder does not exist"),
        ([tmp_path, "--model", model], "holds no trajectory.xyz"),
    ):
        code, output = command(*words)
        assert code != 0 and said in output, output
    write(file, [*frames, Atoms("HCl", positions=[[0, 0, 0], [0, 0, 1.3]])])
    assert "different molecules" in command(file, "--model", model, "--timestep", 1)[1]
