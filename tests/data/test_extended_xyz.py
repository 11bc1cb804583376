"""Extended XYZ that other programs, editors and accidents have made: read in full, or refused with file and frame."""

import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import mlpot
from mlpot.errors import DataError, StructureError
from mlpot.structures import all_labelled, read_structures

LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5"'
COMMENT = LATTICE + ' Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T"'
ROWS = "Si 0 0 0 0.1 0 0\nO 1.6 0 0 -0.1 0 0\n"
FRAME = f"2\n{COMMENT}\n{ROWS}"


def read(folder, text):
    file = folder / "a.xyz"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return mlpot.read(file)


@pytest.mark.parametrize("text", [
    FRAME * 3,
    "\ufeff" + FRAME * 3,
    (FRAME * 3).replace("\n", "\r\n"),
    FRAME + "\n\n" + FRAME + "   \n" + FRAME + "\n\n",
    (FRAME * 3).rstrip("\n"),
], ids=["plain", "byte-order mark", "line ends", "empty lines", "no last line end"])  # fmt: skip
def test_frames_are_all_there(tmp_path, text):
    """ASE stops at an empty line, as files put together by hand have it, and says nothing."""
    frames = read(tmp_path, text)
    assert [atoms.info["frame"].rpartition("[")[2] for atoms in frames] == ["0]", "1]", "2]"]
    for s in all_labelled(frames):
        assert s.energy == -1.5 and s.forces[1, 0] == -0.1 and s.atoms.positions[1, 0] == 1.6 and s.atoms.pbc.all()


def test_ase_reads_the_same(tmp_path):
    """Masks, cell vectors behind the atoms, comments in words, integers, molecules."""
    texts = [
        f"2\n{LATTICE} Properties=species:S:1:pos:R:3:move_mask:L:1:n:I:1 pbc=\"T F T\" a=b\nSi 0 0 0 T 3\nO 1 1 1 F 4\n",
        "1\nwater, in words\nH 1 2 3\nVEC1 4 0 0\nVEC2 0 4 0\nVEC3 0 0 5\n",
        "1\n\nH 1 2 3\n",
    ]  # fmt: skip
    (tmp_path / "a.xyz").write_text("".join(texts))
    for ours, theirs in zip(read_structures(tmp_path / "a.xyz"), ase.io.iread(tmp_path / "a.xyz", ":"), strict=True):
        ours.info.pop("frame")
        assert ours == theirs and ours.info == theirs.info and repr(ours.constraints) == repr(theirs.constraints)
        assert ours.arrays.keys() == theirs.arrays.keys()


@pytest.mark.parametrize(("text", "error", "match"), [
    (FRAME.replace("2\n", "-2\n", 1), DataError, r"'-2' is where the number of atoms should be"),
    (FRAME.replace("2\n", "2.0\n", 1), DataError, r"'2\.0' is where the number of atoms"),
    (FRAME.replace("2\n", "two\n", 1), DataError, r"'two' is where the number of atoms"),
    (FRAME.replace("2\n", "3\n", 1), DataError, r"ends within this frame, after 2 of 3 atoms"),
    (FRAME.replace(" -0.1 0 0\n", " -0.1\n"), DataError, r"atom 1 has 5 columns instead of 7: 'O 1.6 0 0 -0.1'"),
    (FRAME.replace("species:", "name:"), DataError, "Properties .* has no column for an element"),
    (FRAME.replace("pos:", "place:"), DataError, "Properties .* has no column for positions"),
    (FRAME.replace(":R:3", ":R:-3"), DataError, "from 0 to 10000 columns"),
    (FRAME.replace("T T T", "all of them"), DataError, "pbc = 'all of them': write one or three of T and F"),
    (FRAME.replace("pbc", "energy=-2 pbc"), DataError, "energy is there twice, as '-1.5' and as '-2'"),
    (FRAME.replace("pbc", 'stress="1 9 0 0 1 0 0 0 1" pbc'), DataError, "stress = .* is not symmetric"),
    (FRAME.replace("pbc", 'dft_virial="1 9 0 0 1 0 0 0 1" pbc'), DataError, "dft_virial = .* is not symmetric"),
    (FRAME.replace("pbc", 'name="\xe9" pbc').encode("latin-1"), DataError, "is no text in UTF-8"),
    (FRAME.replace("O ", "X "), StructureError, "atom 1 is of no element"),
    (FRAME.replace("1.6", "nan"), StructureError, "positions or cell are not finite"),
    (FRAME.replace('"5 ', '"nan '), StructureError, "positions or cell are not finite"),
    (FRAME.replace("0.1", "1e308"), DataError, "forces holds 1e.308, which is no result"),
])  # fmt: skip
def test_a_frame_that_cannot_be_is_named(tmp_path, text, error, match):
    """In the middle of a file as at its start."""
    for before in (0, 2):
        whole = FRAME.encode() * before + (text if isinstance(text, bytes) else text.encode())
        with pytest.raises(error, match=rf"a\.xyz\[{before}\]: .*{match}"):
            all_labelled(read(tmp_path, whole))


def test_too_few_atoms_show_in_the_frame_behind(tmp_path):
    with pytest.raises(DataError, match=r"a\.xyz\[1\]: 'O 1\.6 .* is where the number of atoms should be; .* of the frame before"):
        read(tmp_path, FRAME.replace("2\n", "1\n", 1) + FRAME)


def test_columns_that_nobody_named_are_said_and_can_be_named(tmp_path, caplog):
    """A label may be among them."""
    with caplog.at_level(logging.WARNING):
        frames = read(tmp_path, FRAME.replace(":forces:R:3", ""))
    assert "not used: 'columns_5_to_7' (3 per atom)" in caplog.text and "forces" not in frames[0].calc.results
    frames = mlpot.read(tmp_path / "a.xyz", forces_key="columns_5_to_7")
    np.testing.assert_array_equal(frames[0].get_forces()[:, 0], [0.1, -0.1])


def test_words_behind_the_numbers_are_no_columns(tmp_path):
    frames = read_structures(_file(tmp_path, "1\n\nH 0 0 0 # first\n2\n\nH 0 0 0\nH 1 0 0 7\n"))
    assert [set(atoms.arrays) for atoms in frames] == [{"numbers", "positions"}] * 2


def _file(folder, text):
    (folder / "b.xyz").write_text(text)
    return folder / "b.xyz"


def test_nearly_symmetric_stresses_are_symmetric():
    """Of codes that do not symmetrise, and next to nothing."""
    atoms = Atoms("Si", cell=[5, 5, 5], pbc=True)
    for stress in ([1, 0.3, 0, 0.35, 1, 0, 0, 0, 1], [1e-6, 9e-6, 0, 0, 1e-6, 0, 0, 0, 1e-6]):
        atoms.calc = SinglePointCalculator(atoms, stress=np.reshape(stress, (3, 3)))
        all_labelled([atoms])
    atoms.calc = SinglePointCalculator(atoms, stress=np.reshape([1, 0.3, 0, 0.5, 1, 0, 0, 0, 1], (3, 3)))
    with pytest.raises(DataError, match=r"structure 0: stress = .* is not symmetric"):
        all_labelled([atoms])
