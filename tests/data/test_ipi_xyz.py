"""i-PI's own xyz, through the one door of structures, against i-PI's own reader and writer."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

import mlpot
from mlpot.errors import DataError
from mlpot.structures import read_structures
from mlpot.units import BOHR

ROWS = "O 1.0 2.0 3.0\nD 2.0 2.5 3.0\nT 0.5 -1.0 3.5\nH 4.0 4.0 4.5\n"
CELLS = {
    "abc": "CELL(abcABC): 8.0 9.0 10.0 80.0 95.0 100.0",
    "abc[]": "CELL[abcABC]: 8.0 9.0 10.0 90.0 90.0 90.0",
    "H": "CELL{H}: 8.0 1.0 0.5 0.0 9.0 -0.3 0.0 0.0 10.0",
    "GENH": "CELL{GENH}: 8.0 1.0 0.5 0.2 9.0 -0.3 1.0 0.1 10.0",
    "GENH()": "CELL(GENH): 0.0 8.0 0.5 9.0 0.1 -0.3 1.0 0.1 10.0",
}
UNITS = {
    "none": "",
    "angstrom": "Step: 7 Bead: 0 positions{angstrom} cell{angstrom}",
    "mixed": "x_centroid{angstrom}  cell{atomic_unit}",
    "nano": "positions{nanometer} cell{picometer}",
    "empty": "positions{} cell{}",
}


def write(tmp_path, comment, rows=ROWS, name="init.xyz"):
    file = tmp_path / name
    file.write_text(f"{len(rows.splitlines())}\n# {comment}\n{rows}")
    return file


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("unit", UNITS)
def test_the_numbers_are_those_of_i_pi(tmp_path, cell, unit):
    io = pytest.importorskip("ipi.utils.io", reason="i-PI is not installed")
    file = write(tmp_path, f"{CELLS[cell]} {UNITS[unit]}")
    with file.open() as handle:
        theirs = io.read_file("xyz", handle)
    (ours,) = read_structures(file)
    np.testing.assert_allclose(ours.positions / BOHR, theirs["atoms"].q.reshape(-1, 3), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.cell.array.T / BOHR, theirs["cell"].h, rtol=1e-6, atol=1e-6)
    assert ours.pbc.all()


def test_isotopes_are_hydrogen_with_their_masses(tmp_path):
    (atoms,) = read_structures(write(tmp_path, CELLS["abc"]))
    assert list(atoms.symbols) == ["O", "H", "H", "H"]
    np.testing.assert_allclose(atoms.get_masses(), [15.999, 2.0141, 3.016049, 1.008], rtol=1e-6)


def test_units_are_bohr_where_none_is_named(tmp_path):
    (atoms,) = read_structures(write(tmp_path, CELLS["H"]))
    assert atoms.positions[0] == pytest.approx(BOHR * np.array([1, 2, 3]))
    assert atoms.cell[1] == pytest.approx(BOHR * np.array([1, 9, 0]))


def test_frames_and_what_i_pi_writes(tmp_path):
    """Every command's door: frames, ASE's @, and an error that says where."""
    file = tmp_path / "run.pos_0.xyz"
    frames = [f"4\n# {CELLS['abc']} Step: {k} positions{{angstrom}}\n{ROWS.replace('1.0', f'{k}.5')}" for k in range(3)]
    file.write_text("".join(frames))
    assert [atoms.positions[0, 0] for atoms in read_structures(file)] == [0.5, 1.5, 2.5]
    assert mlpot.read(f"{file}@1")[0].positions[0, 0] == 1.5
    file.write_text("".join(frames)[:-20])
    with pytest.raises(DataError, match=r"run.pos_0.xyz\[2\]: .*(cut short|finite numbers)"):
        read_structures(file)


@pytest.mark.parametrize(
    ("comment", "rows", "problem"),
    [
        (CELLS["abc"] + " forces{ev/ang}", ROWS, "no positions"),
        (CELLS["abc"] + " positions{parsec}", ROWS, "'parsec': not a unit of length"),
        (CELLS["abc"] + " cell{ell}", ROWS, "'ell': not a unit of length"),
        ("CELL{H}: 8 0 0 1 8 0 0 0 8", ROWS, "not upper triangular"),
        ("CELL{H}: 8 0 0 0 8 0 0 0 0", ROWS, "no volume"),
        ("CELL{H}: 8 0 0 0 8 0", ROWS, "9 finite numbers"),
        (CELLS["abc"], ROWS.replace("T", "Q7"), "'Q7' is no element"),
        (CELLS["abc"], ROWS.replace("4.5", "nan"), "3 finite numbers"),
    ],
)
def test_what_cannot_be_meant_is_an_error_in_one_line(tmp_path, comment, rows, problem):
    with pytest.raises(DataError, match=problem) as error:
        read_structures(write(tmp_path, comment, rows))
    assert str(tmp_path / "init.xyz") in str(error.value) and "\n" not in str(error.value)


def test_other_xyz_is_read_as_before(tmp_path):
    atoms = Atoms("OH2", positions=np.arange(9.0).reshape(3, 3), cell=[9, 9, 9], pbc=(True, True, False))
    atoms.info["ipi_comment"] = "Step: 0  Bead: 0  positions{ase}  cell{ase}"
    for format in ("xyz", "extxyz"):
        ase.io.write(tmp_path / "a.xyz", atoms, format=format)
        assert read_structures(tmp_path / "a.xyz")[0].positions == pytest.approx(atoms.positions)
