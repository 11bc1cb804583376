"""Every input of inputs/ipi, shortened, with the real i-PI and the commands that it names itself."""

import json
import os
import re
import shlex
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ipi_runs import I_PI, Process

import mlpot
from mlpot.report.frames import sampled_steps
from mlpot.units import BOHR, HARTREE

INPUTS = Path(__file__).resolve().parents[2] / "inputs" / "ipi"
README = (INPUTS / "README.md").read_text()
FILES = sorted(file.stem for file in INPUTS.glob("*.xml"))
STEPS = {
    "nvt": 100,
    "npt": 100,
    "pimd8": 120,
    "pimd32": 80,
    "remd": 60,
    "mts": 28,
    "baseline": 100,
    "learn_pimd8": 80,
    "learn_ir": 300,
    "learn_field": 60,
    "learn_trpmd": 532,
    "learn_raman": 300,
    "nve_ir": 300,
}
AFTER = {"nve_ir": "learn_ir"}
"""Inputs that go on where another one ended, in its folder and with its driver."""
STRIDE = 4
SAME = 1e-6
"""i-PI's hartree has eight digits."""
LIMIT = 200
"""Seconds for a run of i-PI, on a machine that does other things too."""
CLASSICAL = 1.5 * 24 * 300 * 8.617333e-5
"""Kinetic energy of 24 classical atoms at 300 K, eV."""
CONSERVED = 0.03
"""Spread of the conserved quantity in units of that of the potential energy, which falls by about 1 eV from the start."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not I_PI.exists(), reason="i-PI is not installed")]


def commands(name):
    return re.findall(r"<\?start (.*)\?>", (INPUTS / f"{name}.xml").read_text())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A copy of the folder in which its models have been made, from fewer labels."""
    pytest.importorskip("tblite", reason="tblite is not installed")
    work = tmp_path_factory.mktemp("models") / "ipi"
    shutil.copytree(INPUTS, work, ignore=shutil.ignore_patterns("*.h5", "labels"))
    assert "python make_models.py " in README
    with Process([sys.executable, "make_models.py", "--steps", 200], work, "models.log") as making:
        assert making.wait(300) == 0, making.text
    return work


class Run:
    """A finished run in a copy of a folder: the table of properties and what the drivers said."""

    def __init__(self, name, folder, work):
        shutil.copytree(folder, work, ignore=shutil.ignore_patterns("labels"))
        self.name, self.work, self.folder = name, work, work / AFTER.get(name, name)
        # addresses are of this machine, where the same test may be running a second time
        own = f"_{os.getpid()}"
        text = re.sub(r"<total_steps>\d+<", f"<total_steps>{STEPS[name]}<", (INPUTS / f"{name}.xml").read_text())
        (work / f"{name}.xml").write_text(re.sub(r"<address>(\w+)<", rf"<address>\1{own}<", text))
        for file in INPUTS.glob("*.toml"):
            (work / file.name).write_text(re.sub(r'unix = "(\w+)"', rf'unix = "\1{own}"', file.read_text()))
        with ExitStack() as stack:
            ipi, *drivers = [
                stack.enter_context(Process(words(line, own), work, f"{k}.log"))
                for k, line in enumerate(commands(name))
            ]
            assert ipi.wait(LIMIT) == 0, ipi.text
            assert [driver.wait(20) for driver in drivers] == [0] * len(drivers), drivers[0].text
        self.said = [driver.text for driver in drivers]

    def table(self, prefix=""):
        """Properties by name; all finite, one row every four steps."""
        file = self.work / f"{prefix}{self.name}.md"
        rows = np.loadtxt(file)
        names = re.findall(r"^# column.*--> (\w+(?:\(\d\))?)", file.read_text(), flags=re.MULTILINE)
        assert np.isfinite(rows).all()
        assert rows[:, 0].tolist() == list(range(0, STEPS[self.name] + 1, STRIDE))
        return dict(zip(names, rows.T, strict=True))

    def extras(self):
        """(n_rows, 2): the two numbers that the model or i-PI says of every structure."""
        rows = np.loadtxt(self.work / f"{self.name}.error{'' if self.name == 'mts' else '_0'}")
        assert np.isfinite(rows).all() and rows.shape[1] == 2
        return rows


def words(line, own):
    """A command of an input as a process is started by it, with addresses of our own."""
    program, *rest = [word for word in shlex.split(line) if word != "PYTHONPATH=."]  # which `python -m` sees to
    for k, word in enumerate(rest):
        if word == "--unix":
            rest[k + 1] += own
    if program == "i-pi":
        return [I_PI, *rest]
    return [sys.executable, "-m", program, *rest, *(["--patience", "60"] if "--unix" in rest else [])]


@pytest.fixture(scope="module")
def run_of(request, tmp_path_factory):
    """Runs by name, each made once; those that learn need no models."""
    pytest.importorskip("tblite", reason="tblite is not installed")
    found = {}

    def run(name):
        if name not in found:
            first = INPUTS if name.startswith("learn") else None
            first = run(AFTER[name]).work if name in AFTER else first or request.getfixturevalue("models")
            found[name] = Run(name, first, tmp_path_factory.mktemp("run") / name)
        return found[name]

    return run


def check_conserved(table, first=0):
    assert np.ptp(table["conserved"][first:]) < CONSERVED * np.ptp(table["potential"])
    assert np.ptp(table["potential"]) > 0.3  # or nothing happened that could have been conserved


def check_nvt(run, _):
    check_conserved(run.table())
    assert f"{STEPS['nvt'] + 1} structures served" in run.said[0]
    assert (run.extras() > 0).all()


def check_npt(run, run_of):
    table = run.table()
    check_conserved(table)
    assert np.ptp(table["volume"]) > 1
    assert np.ptp(table["pressure_md"]) > 100
    assert not np.allclose(table["potential"], run_of("nvt").table()["potential"])


def check_path_integral(run, n_beads, excess):
    """Beads that start on top of each other have classical kinetic energy; then the quantum one comes, by both estimators."""
    table = run.table()
    assert table["kinetic_cv"][0] == pytest.approx(CLASSICAL, rel=1e-3)
    late = len(table["step"]) // 3
    for estimator in ("kinetic_cv", "kinetic_td"):
        assert table[estimator][late:].mean() > excess * CLASSICAL
    assert f"batch_size = {n_beads}" in run.said[0]
    assert f"{n_beads * STEPS[run.name] + 1} structures served" in run.said[0]  # at first all beads are one


def check_pimd(run, n_beads, excess):
    check_conserved(run.table(), first=4)
    check_path_integral(run, n_beads, excess)


def check_remd(run, _):
    swaps = np.loadtxt(run.work / "remd.swaps", dtype=int, ndmin=2)
    assert len(swaps) > 3
    assert (np.sort(swaps[:, 1:], axis=1) == np.arange(4)).all()
    tables = [run.table(f"{name}_") for name in ("cold", "cool", "warm", "hot")]
    temperatures = np.array([table["ensemble_temperature"] for table in tables])
    assert temperatures[:, 0].tolist() == [300, 330, 363, 400]
    np.testing.assert_allclose(np.sort(temperatures, axis=0), temperatures[:, :1].repeat(temperatures.shape[1], axis=1))
    np.testing.assert_allclose(temperatures[:, -1], temperatures[swaps[-1, 1:], 0])
    for table in tables:
        check_conserved(table)


def check_mts(run, run_of):
    """The potential is the good model's; with a step four times as long the conserved quantity is about as good as with it
    alone, and much better than the time step alone would have it."""
    table, reference = run.table(), run_of("nvt").table()
    check_conserved(table)
    np.testing.assert_allclose(table["potential"], table["pot_component_raw(0)"], rtol=1e-12)
    assert np.abs(table["pot_component_raw(1)"] - table["potential"]).max() > 1e-3
    assert table["potential"][0] == pytest.approx(reference["potential"][0], abs=1e-6)
    assert table["time"][-1] == pytest.approx(2 * STEPS["mts"])
    assert table["conserved"].std() < 4 * reference["conserved"].std()
    assert (run.extras() > 0).all()
    assert f"{4 * STEPS['mts'] + 1} structures served" in run.said[1]


def check_baseline(run, run_of):
    """Weights follow from the committee's deviation, energies from the two models and the weight, and forces are their
    derivative, that of the weight included: the conserved quantity is as good as that of one model."""
    table, extras = run.table(), run.extras()
    check_conserved(table)
    assert table["conserved"].std() < 1.5 * run_of("nvt").table()["conserved"].std()
    deviation, weight = extras.T * np.array([[HARTREE], [1.0]])
    assert deviation.min() > 0 and np.ptp(deviation) > 1e-3
    np.testing.assert_allclose(weight, 0.1**2 / (0.1**2 + deviation**2), rtol=1e-4)
    fast, correction = (mlpot.load_model(run.work / f"water_{name}.h5") for name in ("fast", "correction"))
    frames = ase.io.read(run.work / "baseline.pos_0.extxyz", ":")
    rows = np.arange(0, len(weight), 20 // STRIDE)
    corrections = np.array([correction.predict(atoms).energy for atoms in frames])
    expected = np.array([fast.predict(atoms).energy for atoms in frames]) + weight[rows] * corrections
    np.testing.assert_allclose(table["potential"][rows], expected, rtol=SAME)
    faded = np.abs((1 - weight[rows]) * corrections)
    assert faded.max() > 2 * SAME * abs(expected[0])  # else it could not be told from the plain sum


def check_learning(run, _):
    """From nothing to the same ring polymers, with a label for few of them."""
    check_path_integral(run, 8, 1.8)
    rows = list(ase.db.connect(run.work / "learn_pimd8" / "labels.db").select())
    labels = run.extras()[:, 1]
    assert labels[0] == 1 and (np.diff(labels) >= 0).all() and labels[-1] == len(rows) < 40
    table, quiet = run.table(), np.diff(labels)[4:] == 0  # where nothing was learned the energy is conserved
    assert np.abs(np.diff(table["conserved"])[4:][quiet]).max() < CONSERVED * np.ptp(table["potential"]) / 4
    assert np.median([row.force_error for row in rows if "force_error" in row][-5:]) < 0.3
    steps = sampled_steps(run.work / "learn_pimd8" / "trajectory.xyz", 100, 8)
    assert max(steps) == STEPS["learn_pimd8"]


def check_dipoles(run, _):
    """The dipoles that i-PI writes are those of the model of the run; the command for the spectrum in the input works."""
    labels = run.extras()[:, 1]
    assert (labels[0] == 1) == (run.name not in AFTER) and (np.diff(labels) >= 0).all()
    model = mlpot.load_model(run.folder / "model.h5")
    last = [atoms for atoms in ase.io.read(run.folder / "trajectory.xyz", ":") if atoms.info["bead"] == 0][-1]
    sent = np.loadtxt(run.work / f"{run.name}.dipole_0")[-1]
    assert np.all(sent[3:] > 0)
    # targets are fitted to all labels once more at the end, so the dipole differs by less than a few deviations
    np.testing.assert_allclose(sent[:3] * BOHR, model.predict(last).dipole, atol=3 * BOHR * sent[3:].max())
    line = re.search(r"mlpot (spectrum .*)", run.folder.with_suffix(".toml").read_text())
    if line is not None:
        words = line[1].replace("--skip 1", "").split()
        with Process([sys.executable, "-m", "mlpot", *words, "--json", "ir.json"], run.work, "spectrum.log") as drawing:
            assert drawing.wait(100) == 0, drawing.text
        found = json.loads((run.work / "ir.json").read_text())
        assert found["timestep_fs"] == 1.0 and (run.work / words[-1]).exists()
        return {kind: found[kind] for kind in ("infrared", "raman") if kind in found} | {"n_beads": found["n_beads"]}
    return {}


def check_infrared(run, _, n_beads=1):
    """Absorption by bending and stretching."""
    found = check_dipoles(run, _)
    assert found["n_beads"] == n_beads
    check_bands(found["infrared"])


def check_bands(spectrum):
    """Little is beyond the vibrations of water, whose lines are 1300 1/cm wide after so few steps; of noise it would be 0.64.

    Structures start from a lattice, and models are learned while they settle: dipoles jump a little.
    """
    nu, values = np.array(spectrum["wavenumbers_per_cm"]), np.array(spectrum["values"])
    assert spectrum["integral"] > 0 and values[nu > 6000].sum() < 0.25 * values.sum()


def check_raman(run, _):
    """Both spectra; the polarisability that i-PI writes is of the model and has the size of eight molecules."""
    found = check_dipoles(run, _)
    check_bands(found["infrared"])
    check_bands(found["raman"])
    last = ase.io.read(run.folder / "trajectory.xyz")
    sent = np.loadtxt(run.work / f"{run.name}.polarizability_0")[-3:] * BOHR**3
    np.testing.assert_allclose(sent, mlpot.load_model(run.folder / "model.h5").predict(last).polarizability, rtol=0.05, atol=0.1)
    assert 2 < np.trace(sent) / 3 < 15  # 1.4 A^3 a molecule in nature, 0.4 with the few functions of GFN1-xTB


def check_field(run, _):
    """i-PI reads dipoles and Born charges from what the driver sends; the field does work on the molecules."""
    check_dipoles(run, _)
    rows = np.loadtxt(run.work / f"{run.name}.field")
    assert np.abs(rows[:, 3]).max() > 0.5 * 0.3 * 0.0194469 and not np.any(rows[:, 1:3])
    sent = np.loadtxt(run.work / f"{run.name}.dipole_0")[::2, :3]
    np.testing.assert_allclose(rows[:, 4:7], sent, atol=1e-6)


CHECKS = {
    "nvt": check_nvt,
    "npt": check_npt,
    "pimd8": lambda run, _: check_pimd(run, 8, 1.8),
    "pimd32": lambda run, _: check_pimd(run, 32, 2.3),
    "remd": check_remd,
    "mts": check_mts,
    "baseline": check_baseline,
    "learn_pimd8": check_learning,
    "learn_ir": check_infrared,
    "learn_field": check_field,
    "learn_trpmd": lambda run, _: check_infrared(run, _, 8),
    "learn_raman": check_raman,
    "nve_ir": check_infrared,
}


@pytest.mark.parametrize("name", FILES)
def test_an_input(name, run_of):
    CHECKS[name](run_of(name), run_of)


def test_the_readme_has_all_commands():
    lines = {name: next(row for row in README.splitlines() if row.startswith(f"| `{name}.xml`")) for name in FILES}
    for name, line in lines.items():
        assert re.findall(r"`((?:i-pi|mlpot|PYTHONPATH=\.) .*?)`", line) == commands(name)
