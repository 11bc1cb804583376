"""The recipes of examples/labellers: each makes its ASE calculator, which writes the input of its code, or runs a stand-in for it."""

import re
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.units import GPa
from stand_ins import AIMS, VASP

import mlpot
from mlpot.errors import ConfigError, LabelError
from mlpot.import_paths import imported
from mlpot.labellers.calculator import CalculatorLabeller

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "labellers"
CODES = ("vasp", "cp2k", "orca", "aims", "gpaw")
ORCA = """
import re
atoms = re.findall(r"^([A-Z][a-z]?) +(\\S+) (\\S+) (\\S+)$", open("orca.inp").read(), re.M)
print("Number of atoms                             ....", len(atoms))
print("CARTESIAN COORDINATES (ANGSTROEM)\\n---------------------------------")
for atom in atoms:
    print(*atom)
print("\\nFINAL SINGLE POINT ENERGY      -76.25{said}")
numbers = [0.01, 0, 0, -0.01] + [0] * (3 * len(atoms) - 4)
open("orca.engrad", "w").write("# The current gradient\\n#\\n" + "\\n".join(map(str, numbers)) + "\\n#\\n# The atomic numbers\\n")
print("ORCA TERMINATED NORMALLY")
"""
WITHOUT_OUTER_LOOP = "&FORCE_EVAL\n&DFT\n&SCF\n&OT\n&END OT\n&END SCF\n&END DFT\n&END FORCE_EVAL"
CP2K = """
import sys
lines = (line.strip() for line in sys.stdin)
def say(*words): print(*words, flush=True)
say("* READY")
n_atoms = 0
for line in lines:
    word = line.split()[0]
    if word == "VERSION":
        say("CP2K Shell Version: 7.0")
    elif word == "WRITE_FILE":
        name, count = next(lines), int(next(lines))
        text = [next(lines) for _ in range(count)]
        next(lines)
        open(name, "w").write("\\n".join(text))
        n_atoms = sum(len(line.split()) == 4 and line.split()[0] in ("H", "O") for line in text)
    elif word == "LOAD":
        open(line.split()[2], "w").write("{said}")
        say(1)
    elif word == "SET_POS":
        for _ in range(n_atoms + 2): next(lines)
        say(0.0)
    elif word == "SET_CELL":
        for _ in range(3): next(lines)
    elif word == "GET_E":
        say(-470.0)
    elif word == "GET_F":
        say(3 * n_atoms)
        for k in range(n_atoms): say(0.1 if k == 0 else -0.1 if k == 1 else 0.0, 0.0, 0.0)
        say("* END")
    elif word == "GET_STRESS":
        say(*[0.0] * 9)
    elif word == "EXIT":
        break
    say("* READY")
"""


@pytest.fixture(autouse=True)
def recipes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(RECIPES))
    monkeypatch.chdir(tmp_path)


def program(file, text, said=""):
    """A stand-in for a code."""
    file.write_text(f"#!{sys.executable}" + text.replace("{said}", said))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def water():
    return molecule("H2O", vacuum=3.0)


def test_every_recipe_is_in_the_readme():
    readme = (RECIPES / "README.md").read_text()
    assert {file.stem for file in RECIPES.glob("*.py")} == {f"with_{code}" for code in CODES}
    for code in CODES:
        assert f"with_{code}.make" in readme
        source = (RECIPES / f"with_{code}.py").read_text()
        factory = re.search(r"^def make\(.*", source, re.M | re.S)[0]
        assert len(factory.splitlines()) <= 13  # ten lines, as read


def test_vasp_writes_its_input(tmp_path, monkeypatch):
    potcar = tmp_path / "pp" / "potpaw_PBE" / "Si" / "POTCAR"
    potcar.parent.mkdir(parents=True)
    potcar.write_text("  PAW_PBE Si 05Jan2001\n End of Dataset\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "pp"))
    CalculatorLabeller("with_vasp.make", {"command": "vasp_std"}).check()
    calculator = imported("with_vasp.make")(command="vasp_std", encut=400)
    calculator.write_input(bulk("Si"))
    incar = Path("INCAR").read_text()
    for line in ("ENCUT = 400.0", "KSPACING = 0.25", "EDIFF = 1.00e-06", "IBRION = -1", "NSW = 0", "GGA = PE"):
        assert line in incar, incar
    assert Path("POTCAR").read_text() == potcar.read_text() and "Si" in Path("POSCAR").read_text()


def silicon():
    atoms = bulk("Si")
    atoms.rattle(0.02, seed=1)
    return atoms


def failed(labeller, folder, fate):
    """Message of a label whose code ends like this."""
    (folder / "fate").write_text(fate)
    with pytest.raises(LabelError) as error:
        labeller.label(silicon())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_labels_of_vasp(tmp_path, monkeypatch):
    (tmp_path / "potpaw_PBE" / "Si").mkdir(parents=True)
    (tmp_path / "potpaw_PBE" / "Si" / "POTCAR").write_text("  PAW_PBE Si 05Jan2001\n End of Dataset\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    (tmp_path / "fate").write_text("ok")
    labeller = CalculatorLabeller("with_vasp.make", {"command": program(tmp_path / "vasp", VASP)})
    label = labeller.label(silicon())
    assert label.energy == -10.85 and label.forces.tolist() == [[0.25, 0, 0], [-0.25, 0, 0]]
    np.testing.assert_allclose(label.stress, -0.1 * GPa * np.array([[-10, 1, 3], [1, -20, 2], [3, 2, -30]]))
    assert "the electrons did not converge" in failed(labeller, tmp_path, "unconverged")
    said = failed(labeller, tmp_path, "crash")
    assert "SGRCON" in said and "SIGSEGV" in said


def test_labels_of_aims(tmp_path):
    (tmp_path / "14_Si_default").write_text("  species        Si\n    nucleus      14\n")
    (tmp_path / "fate").write_text("ok")
    parameters = {"species_dir": str(tmp_path), "command": program(tmp_path / "aims", AIMS)}
    labeller = CalculatorLabeller("with_aims.make", parameters)
    label = labeller.label(silicon())
    assert label.energy == -7891.0 and label.forces.tolist() == [[0.25, 0, 0], [-0.25, 0, 0]]
    np.testing.assert_allclose(label.stress, np.diag([0.001, 0.002, 0.003]))
    assert "SCF cycle not converged" in failed(labeller, tmp_path, "unconverged")
    assert "MPI_Abort" in failed(labeller, tmp_path, "crash")


def test_cp2k_through_its_shell(tmp_path):
    shell = program(tmp_path / "cp2k", CP2K)
    labeller = CalculatorLabeller("with_cp2k.make", {"command": shell})
    labeller.check()
    label = labeller.label(water())
    assert label.energy == -470.0 and label.forces[0].tolist() == [0.1, 0.0, 0.0]
    calculator = imported("with_cp2k.make")(command=shell)
    calculator.calculate(water())
    text = Path("cp2k.inp").read_text()
    for line in ("BASIS_SET DZVP-MOLOPT-SR-GTH", "POTENTIAL GTH-PBE", "EPS_SCF 1.0E-6", "MINIMIZER DIIS", "REL_CUTOFF 60"):
        assert line in text
    calculator.close()


def test_cp2k_without_convergence_is_no_label(tmp_path):
    shell = program(tmp_path / "cp2k", CP2K, " *** WARNING SCF run NOT converged ***")
    with pytest.raises(LabelError, match="CP2K: the electrons did not converge"):
        CalculatorLabeller("with_cp2k.make", {"command": shell}).label(water())


@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K is not installed")
def test_cp2k_itself():
    rough = {"cutoff": 3000.0}  # eV, at which the grid pulls at the atoms
    label = CalculatorLabeller("with_cp2k.make", rough, net_force_tolerance=None).label(water())
    assert -470 < label.energy < -465 and np.abs(label.forces.sum(axis=0)).max() < 0.5
    with pytest.raises(LabelError, match="CP2K: the electrons did not converge"):
        CalculatorLabeller("with_cp2k.make", {**rough, "max_scf": 2, "inp": WITHOUT_OUTER_LOOP}).label(water())


@pytest.mark.slow
def test_orca_from_a_configuration_and_from_a_script(tmp_path):
    parameters = {"command": program(tmp_path / "orca", ORCA)}
    label = CalculatorLabeller("with_orca.make", parameters).label(water())
    assert label.energy == pytest.approx(-76.25 * 27.211386, rel=1e-6)
    assert label.forces[0, 0] == pytest.approx(-0.514221, rel=1e-5) and label.stress is None
    atoms = water()
    with mlpot.LearningCalculator("run", imported("with_orca.make"), parameters) as atoms.calc:
        assert atoms.get_potential_energy() == pytest.approx(label.energy, abs=0.1)
    imported("with_orca.make")(**parameters, processes=4, charge=1, mult=2).write_inputfiles(atoms, ["energy", "forces"])
    text = Path("orca.inp").read_text()
    assert "! r2SCAN-3c TightSCF EnGrad" in text and "%pal nprocs 4 end" in text and "*xyz 1 2" in text


def test_orca_without_convergence_is_no_label(tmp_path):
    parameters = {"command": program(tmp_path / "orca", ORCA, " (Wavefunction not fully converged!)")}
    with pytest.raises(LabelError, match="energy is not finite"):
        CalculatorLabeller("with_orca.make", parameters).label(water())


def test_aims_writes_its_input(tmp_path):
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "14_Si_default").write_text("  species        Si\n    nucleus      14\n")
    parameters = {"species_dir": str(tmp_path / "light")}
    CalculatorLabeller("with_aims.make", parameters).check()
    imported("with_aims.make")(**parameters, command="aims.x").write_inputfiles(bulk("Si"), ["energy", "forces", "stress"])
    control = re.sub(" +", " ", Path("control.in").read_text())
    for line in ("xc pbe", "relativistic atomic_zora scalar", "k_grid 4 4 4", "compute_forces .true.", "nucleus 14",
                 "compute_analytical_stress .true.", "occupation_type gaussian 0.05"):  # fmt: skip
        assert line in control, control
    assert Path("geometry.in").read_text().count("lattice_vector") == 3
    (tmp_path / "light" / "01_H_default").write_text("")
    (tmp_path / "light" / "08_O_default").write_text("")
    imported("with_aims.make")(**parameters, k_grid=[]).write_inputfiles(molecule("H2O"), ["energy", "forces"])
    assert "k_grid" not in Path("control.in").read_text()


def test_gpaw():
    if "gpaw" not in sys.modules and not _has("gpaw"):
        with pytest.raises(ConfigError, match="No module named 'gpaw'"):
            CalculatorLabeller("with_gpaw.make").check()
        pytest.skip("GPAW is not installed")
    parameters = {"cutoff": 250.0, "kpts": [2, 2, 2]}
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=0)
    label = CalculatorLabeller("with_gpaw.make", parameters).label(atoms)
    assert -8.4 < label.energy < -7.9 and label.stress.shape == (3, 3)


def _has(name):
    from importlib.util import find_spec

    return find_spec(name) is not None
