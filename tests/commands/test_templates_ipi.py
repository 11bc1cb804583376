"""`mlpot template ipi`: three files that fit each other, and nothing that was there before is touched."""

import io
import re
import tomllib
import xml.etree.ElementTree as ElementTree

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.commands.templates_ipi import CONFIG, INPUT, START, in_standard_cell, ipi_template
from mlpot.errors import ConfigError, StructureError
from mlpot.settings.driver import DriverSettings
from mlpot.settings.files import DriverFile


def start_of(contents):
    return ase.io.read(io.StringIO(contents[START]), format="extxyz")


def triclinic(pbc=True, hand=1):
    cell = np.array([[3.0, 0.4, -0.3], [0.2, 4.0, 0.5], [-0.1, 0.6, hand * 5.0]])
    positions = np.random.default_rng(0).uniform(0, 3, (6, 3))
    return Atoms("OHCHOH", positions=positions, cell=cell, pbc=pbc)


@pytest.mark.parametrize("beads", [1, 8])
def test_the_files_fit_each_other(beads):
    contents = ipi_template(triclinic(), "my start-2", beads, temperature=250.5)
    root, config = ElementTree.fromstring(contents[INPUT]), tomllib.loads(contents[CONFIG])
    assert root.findtext("ffsocket/address") == config["driver"]["unix"] == "my_start_2"
    assert int(root.findtext("ffsocket/batch_size")) == int(root.find("system/initialize").get("nbeads")) == beads
    assert root.findtext("system/initialize/file") == config["structure"]["file"] == START
    assert root.find("ffsocket").get("name") == root.find("system/forces/force").get("forcefield")
    assert {root.findtext(f"system/{where}") for where in ("initialize/velocities", "ensemble/temperature")} == {
        "250.5"
    }
    mode = root.find("system/motion/dynamics/thermostat").get("mode")
    assert mode == ("langevin" if beads == 1 else "pile_l")
    assert f"mlpot driver {CONFIG}" in contents[INPUT] and "--unix my_start_2?>" in contents[INPUT]
    assert start_of(contents).get_chemical_symbols() == list("OHCHOH")


def test_the_configuration_is_that_of_a_driver():
    """With every commented key switched on as well, but for the other kind of address."""
    text = ipi_template(triclinic(), "start", 8, temperature=250.5)[CONFIG]
    driver = DriverFile.model_validate(tomllib.loads(text)).driver
    assert (driver.unix, driver.temperature_K) == ("start", 250.5)
    every = "\n".join(line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in text.splitlines())
    known = tomllib.loads(every)
    assert set(known) == set(DriverFile.model_fields) - {"labellers"}  # in place of [labeller]
    assert set(known["driver"]) == set(DriverSettings.model_fields)
    with pytest.raises(ConfigError, match="either unix or port"):
        DriverFile.model_validate(known)


@pytest.mark.parametrize("pbc", [True, False, (True, True, False)])
@pytest.mark.parametrize("hand", [1, -1])
def test_the_cell_is_turned_as_that_of_i_pi(pbc, hand):
    atoms = triclinic(pbc, hand)
    turned = start_of(ipi_template(atoms, "start"))
    assert np.abs(turned.cell.array[np.triu_indices(3, 1)]).max() < 1e-9
    assert np.linalg.det(turned.cell) == pytest.approx(abs(np.linalg.det(atoms.cell)), abs=1e-6)
    assert (np.diag(turned.cell) > 0).all()
    np.testing.assert_array_equal(turned.pbc, atoms.pbc)
    np.testing.assert_array_equal(turned.numbers, atoms.numbers)
    distances = atoms.get_all_distances(mic=any(atoms.pbc))
    np.testing.assert_allclose(turned.get_all_distances(mic=any(atoms.pbc)), distances, atol=1e-7)


def test_atoms_without_a_cell_get_one():
    turned = in_standard_cell(molecule("H2O"))
    assert not turned.pbc.any() and turned.get_volume() > 20**3
    slab = Atoms(
        "Si2", positions=[[0, 0, 0], [0, 0, 2]], cell=[[3, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=(True, True, False)
    )
    turned = in_standard_cell(slab)
    assert turned.cell.lengths() == pytest.approx([3, 3, 22])
    assert turned.get_distance(0, 1) == pytest.approx(2)


def test_what_cannot_be_meant_is_refused():
    for beads, temperature in ((0, 300), (1, 0), (1, float("nan")), (1, float("inf"))):
        with pytest.raises(ConfigError, match="must be positive"):
            ipi_template(triclinic(), "start", beads, temperature)
    with pytest.raises(StructureError, match="no atoms"):
        ipi_template(Atoms(), "start")
    with pytest.raises(StructureError, match="periodic along c"):
        ipi_template(Atoms("H", cell=[[1, 0, 0], [0, 1, 0], [0, 0, 0]], pbc=True), "start")


def test_names_of_sockets_are_short_and_plain():
    for name, address in (("a" * 200, "a" * 40), ("Si & O", "Si_O"), ("...", "mlpot"), ('"/><', "mlpot")):
        assert ElementTree.fromstring(ipi_template(triclinic(), name)[INPUT]).findtext("ffsocket/address") == address


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("water.xyz", triclinic())
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["template", *map(str, words)])


def test_the_command_writes_them(work):
    result = run("ipi", "water.xyz", "--beads", 4, "--temperature", 350, "--output", "new/run")
    assert result.exit_code == 0, result.output
    assert {file.name for file in (work / "new/run").iterdir()} == {INPUT, CONFIG, START}
    text = (work / "new/run" / INPUT).read_text()
    assert re.search(r"nbeads='4'", text) and "350</temperature>" in text and re.search(r"<address>water_\w{6}<", text)


@pytest.mark.parametrize("file", [INPUT, CONFIG, START])
def test_nothing_is_overwritten_unless_asked_for(work, file):
    (work / file).write_text("mine")
    result = run("ipi", "water.xyz")
    assert result.exit_code == 2 and f"{file}: there already" in result.output
    assert {entry.name for entry in work.iterdir()} == {"water.xyz", file}
    assert (work / file).read_text() == "mine"
    assert run("ipi", "water.xyz", "--overwrite").exit_code == 0
    assert (work / file).read_text() != "mine"


def test_a_folder_that_cannot_be(work):
    result = run("ipi", "water.xyz", "--output", "water.xyz/run")
    assert result.exit_code == 2 and "choose another --output" in result.output


def test_options_of_others(work):
    result = run("learn", "water.xyz", "--beads", 4)
    assert result.exit_code == 2 and "--beads: only for `mlpot template ipi`" in result.output


def test_runs_of_two_folders_have_addresses_of_their_own(work):
    """So that they can go on side by side; the same folder has the same address again."""
    found = []
    for folder in ("a", "b", "a"):
        assert run("ipi", "water.xyz", "--output", folder, "--overwrite").exit_code == 0
        text = (work / folder / INPUT).read_text()
        found.append(ElementTree.fromstring(text).findtext("ffsocket/address"))
        assert tomllib.loads((work / folder / CONFIG).read_text())["driver"]["unix"] == found[-1]
        assert f"--unix {found[-1]}?>" in text
    assert found[0] == found[2] != found[1]


def test_isotopes_keep_their_masses(work):
    """i-PI takes them from the column `masses` of a file that ASE reads."""
    (work / "heavy.xyz").write_text("3\n# CELL(abcABC): 20 20 20 90 90 90\nO 0 0 0\nD 1 1 0\nT 1 -1 0\n")
    assert run("ipi", "heavy.xyz").exit_code == 0
    atoms = ase.io.read(work / START)
    assert list(atoms.symbols) == ["O", "H", "H"]
    np.testing.assert_allclose(atoms.get_masses()[1:], [2.0141, 3.016049])


@pytest.mark.parametrize(
    ("symbols", "calculator"),
    [
        ("CuAu", "ase.calculators.emt.EMT"),
        ("Al", "ase.calculators.emt.EMT"),
        ("CuH", "tblite.ase.TBLite"),
        ("CO", "tblite.ase.TBLite"),
        ("SiRn", "tblite.ase.TBLite"),
        ("UO", "your_package.YourCalculator"),
    ],
)
def test_the_calculator_is_one_that_has_the_elements(work, symbols, calculator):
    """EMT for its metals, though it has parameters for H, C, N and O as well."""
    ase.io.write("a.xyz", Atoms(symbols, positions=3.0 * np.arange(3 * len(Atoms(symbols))).reshape(-1, 3)))
    told = tomllib.loads(run("learn", "a.xyz").stdout)["labeller"]
    assert told["calculator"] == calculator
    assert bool(told["parameters"]) == (calculator == "tblite.ase.TBLite")


@pytest.mark.parametrize(("text", "match"), [
    ("1\n\nX 0 0 0\n", "atom 0 is of no element"), ("1\n\nCu 0 nan 0\n", "positions or cell are not finite"),
])  # fmt: skip
def test_what_no_simulation_can_start_from(tmp_path, text, match):
    (tmp_path / "start.xyz").write_text(text)
    done = CliRunner().invoke(app, ["template", "ipi", str(tmp_path / "start.xyz"), "--output", str(tmp_path / "ipi")])
    assert done.exit_code == 1 and match in " ".join(done.output.split())
    assert not (tmp_path / "ipi").exists()
