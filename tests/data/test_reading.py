"""Labels under the names that people give them: the right numbers, what was taken is said, and nothing is lost in silence."""

import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from conftest import make_frames

import mlpot
from mlpot.data.label_keys import KNOWN, LabelKeys, plain
from mlpot.data.reading import read_labelled
from mlpot.errors import ConfigError, DataError, StructureError
from mlpot.structures import all_labelled, labelled


@pytest.fixture(scope="module")
def three():
    return make_frames(3)


def write(file, frames, energy="energy", forces="forces", tensor=None, value=None, extra=""):
    """Extended XYZ with labels under any names; `value` makes numbers of a structure for the key `tensor`."""
    with open(file, "w") as handle:
        for atoms in frames:
            lattice = " ".join(map(repr, atoms.cell.array.ravel().tolist()))
            numbers = "" if tensor is None else f' {tensor}="{" ".join(map(repr, value(atoms).ravel().tolist()))}"'
            handle.write(
                f'{len(atoms)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3:{forces}:R:3 '
                f'{energy}={float(atoms.get_potential_energy())!r}{numbers} {extra} pbc="T T T"\n'
            )
            for symbol, *rows in zip(atoms.symbols, atoms.positions, atoms.get_forces(), strict=True):
                handle.write(f"{symbol} {' '.join(repr(float(x)) for row in rows for x in row)}\n")
    return str(file)


def virial(atoms):
    return -atoms.get_volume() * atoms.get_stress(voigt=False)


def assert_labels(found, frames, stress=False):
    """The same energies, forces and, where there is one, stress."""
    for atoms, expected in zip(found, frames, strict=True):
        assert atoms.get_potential_energy() == expected.get_potential_energy()
        np.testing.assert_array_equal(atoms.get_forces(), expected.get_forces())
        if stress:
            np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), rtol=1e-13, atol=1e-16)
            np.testing.assert_allclose(labelled(atoms).virial, virial(expected), rtol=1e-12, atol=1e-12)
        else:
            assert "stress" not in atoms.calc.results


@pytest.mark.parametrize(
    "energy", ["REF_energy", "dft_energy", "Energy", "TotEnergy", "total_energy", "free_energy", "energy_ref"]
)
@pytest.mark.parametrize("forces", ["force", "REF_forces", "dft_forces", "forces"])
def test_well_known_names_are_found_and_said(tmp_path, three, energy, forces):
    file = write(tmp_path / "a.xyz", three, energy, forces)
    data = read_labelled(file)
    assert_labels(data.frames, three)
    said = " ".join(data.notes)
    for key in {energy, forces} - {"free_energy", "forces"}:
        assert repr(key) in said
    assert "not used" not in said
    assert (data.files[0].energies, data.files[0].forces, data.files[0].stresses) == (3, 3, 0)


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial", "dft_virial", "Virial"])
def test_a_virial_is_minus_stress_times_volume(tmp_path, three, key):
    data = read_labelled(write(tmp_path / "a.xyz", three, tensor=key, value=virial))
    assert_labels(data.frames, three, stress=True)
    assert f"stress from {key!r} (3 of 3)" in data.notes[0]


def six(atoms):
    return atoms.get_stress()


def nine(atoms):
    return atoms.get_stress(voigt=False)


@pytest.mark.parametrize("value", [six, nine])
@pytest.mark.parametrize("key", ["stress", "REF_stress", "dft_stress"])
def test_a_stress_of_six_or_nine_numbers(tmp_path, three, key, value):
    assert_labels(read_labelled(write(tmp_path / "a.xyz", three, tensor=key, value=value)).frames, three, stress=True)


def test_a_virial_of_six_numbers_in_the_order_of_ase(tmp_path, three):
    file = write(tmp_path / "a.xyz", three, tensor="virial", value=lambda a: -a.get_volume() * a.get_stress())
    assert_labels(mlpot.read(file), three, stress=True)


def test_names_of_models_and_gradients_are_not_labels():
    for key in ("gradient", "mace_energy", "gap_forces", "kinetic_energy", "formation_energy", "energies", "stresses"):
        assert plain(key) not in KNOWN


def test_what_looks_like_a_label_and_is_not_used_is_named(tmp_path, three, caplog):
    extra = 'kinetic_energy=1.5 step=3 name=x nine="1.0 2 3 4 5 6 7 8 9" dipole_of_mine="0.5 1 2"'
    file = write(tmp_path / "a.xyz", three, forces="gradient", extra=extra)
    with caplog.at_level(logging.WARNING, "mlpot"):
        frames = mlpot.read(file)
    assert [atoms.get_potential_energy() for atoms in frames] == [atoms.get_potential_energy() for atoms in three]
    assert all("forces" not in atoms.calc.results for atoms in frames)
    (said,) = caplog.messages
    assert "'gradient' (3 per atom, a gradient is minus the forces)" in said
    assert "'kinetic_energy' (a number)" in said and "'nine' (9 numbers)" in said
    assert "step" not in said and "dipole" not in said


def test_two_energies_that_differ_are_an_error_that_names_them(tmp_path, three):
    file = write(tmp_path / "a.xyz", three, extra="dft_energy=-7.25")
    with pytest.raises(
        DataError, match=r"a\.xyz\[0\]: energy under two names .*'energy' \(.*'dft_energy' \(-7.25\).*energy_key"
    ):
        mlpot.read(file)
    data = read_labelled(file, LabelKeys(energy="dft_energy"))
    assert [atoms.get_potential_energy() for atoms in data.frames] == [-7.25] * 3
    assert "not used: 'energy' (a number)" in data.notes[1]
    assert [s.energy for s in all_labelled(mlpot.read(file, energy_key="dft_energy"))] == [-7.25] * 3


def test_two_energies_that_agree_are_one(tmp_path, three):
    file = tmp_path / "a.xyz"
    write(file, three[:1], extra=f"REF_energy={three[0].get_potential_energy():.6f}")
    data = read_labelled(file)
    assert data.frames[0].get_potential_energy() == three[0].get_potential_energy() and not data.notes


def test_forces_follow_the_free_energy(tmp_path, three):
    """Where a code gives both, as VASP does, the free energy is fitted and there is nothing to choose."""
    file = write(tmp_path / "a.xyz", three, extra="free_energy=-5.5")
    assert [s.energy for s in all_labelled(mlpot.read(file))] == [-5.5] * 3
    file = write(tmp_path / "b.xyz", three, energy="REF_energy", extra="REF_free_energy=-5.5")
    assert [s.energy for s in all_labelled(mlpot.read(file))] == [-5.5] * 3
    expected = [atoms.get_potential_energy() for atoms in three]
    assert [s.energy for s in all_labelled(mlpot.read(file, energy_key="REF_energy"))] == expected


def test_a_stress_and_a_virial_must_say_the_same(tmp_path, three):
    text = " ".join(map(repr, virial(three[0]).ravel().tolist()))
    file = write(tmp_path / "a.xyz", three[:1], tensor="stress", value=nine, extra=f'virial="{text}"')
    assert_labels(mlpot.read(file), three[:1], stress=True)
    file = write(tmp_path / "b.xyz", three[:1], tensor="stress", value=lambda a: -nine(a), extra=f'virial="{text}"')
    with pytest.raises(DataError, match=r"stress under two names that differ: 'stress' .*stress_key or virial_key"):
        mlpot.read(file)
    assert_labels(mlpot.read(file, virial_key="virial"), three[:1], stress=True)
    np.testing.assert_allclose(mlpot.read(file, stress_key="stress")[0].get_stress(), -three[0].get_stress())


def test_a_key_that_no_structure_has(tmp_path, three):
    file = write(tmp_path / "a.xyz", three, forces="my_forces")
    with pytest.raises(
        ConfigError, match=r"forces_key = 'my_force': no structure has such a key; did you mean 'my_forces'\?"
    ):
        mlpot.read(file, forces_key="my_force")
    assert_labels(mlpot.read(file, forces_key="my_forces"), three)


def test_a_key_that_some_structures_have(tmp_path, three):
    one, two = (write(tmp_path / f"{k}.xyz", three, energy=key) for k, key in enumerate(("mine", "energy")))
    data = read_labelled([one, two], LabelKeys(energy="mine"))
    assert [contents.energies for contents in data.files] == [3, 0]
    assert any(note.endswith("3 of 3 structures have no 'mine'") for note in data.notes)


@pytest.mark.parametrize(
    "extra, message",
    [
        ("REF_energy=none", r"\[0\]: REF_energy = none: the energy must be a number"),
        ('REF_virial="1 2 3"', r"\[0\]: REF_virial = \[1 2 3\]: the virial must be 6 .* or 9 numbers"),
        ('stress="1 2 3 4"', r"\[0\]: stress = .1. 2. 3. 4..: the stress must be 6"),
        ("stress=abc", r"a\.xyz\[0\]: stress = 'abc': the stress must be 6"),
    ],
)
def test_labels_that_are_none(tmp_path, three, extra, message):
    with pytest.raises(DataError, match=message):
        mlpot.read(write(tmp_path / "a.xyz", three, energy="other", extra=extra))


def test_rows_of_a_database_keep_their_keys(tmp_path, three):
    forces = np.full((len(three[0]), 3), 0.5)
    with connect(tmp_path / "a.db") as rows:
        for atoms in three:
            rows.write(atoms, config_type="surface")
        rows.write(Atoms("Si", cell=[5, 5, 5], pbc=True), dft_energy=-3.5, data={"dft_forces": forces[:1]})
    data = read_labelled(tmp_path / "a.db")
    assert data.files[0].config_types == {"default": 1, "surface": 3}
    assert [s.config_type for s in all_labelled(data.frames)] == ["surface"] * 3 + ["default"]
    last = labelled(data.frames[3])
    assert last.energy == -3.5 and last.forces.tolist() == [[0.5] * 3]


def test_labels_in_tables_of_a_database(tmp_path):
    with connect(tmp_path / "a.db") as rows:
        rows.write(Atoms("Si"), data={"dft": {"energy": -3.5, "forces": [[0.5, 0, 0]]}, "notes": {"by": {"hand": 1}}})
    (atoms,) = mlpot.read(tmp_path / "a.db")
    found = labelled(atoms)
    assert found.energy == -3.5 and found.forces.tolist() == [[0.5, 0, 0]] and atoms.info["notes_by_hand"] == 1


def test_components_of_forces_are_named(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nenergy=1 Properties=species:S:1:pos:R:3:fx:R:1:dft_force_y:R:1:q:R:1\nSi 0 0 0 1 2 3\n")
    (note,) = read_labelled(tmp_path / "a.xyz").notes
    assert "'dft_force_y' (1 per atom; forces are one array of 3 columns), 'fx'" in note and "'q'" not in note


def test_files_by_globs_folders_and_parts(tmp_path, three, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "b").mkdir(parents=True)
    ase.io.write("runs/2.xyz", three)
    ase.io.write("runs/1.traj", three[:2])
    ase.io.write("runs/b/A.XYZ", three[:2], format="extxyz")
    ase.io.write("runs/b/3.xyz", three[:1])
    (tmp_path / "runs" / "README.md").write_text("not a structure")
    names = [atoms.info["frame"] for atoms in mlpot.read("runs")]
    assert names == ["runs/1.traj[0]", "runs/1.traj[1]", "runs/2.xyz[0]", "runs/2.xyz[1]", "runs/2.xyz[2]"]
    assert [c.name for c in read_labelled("runs/*.xyz").files] == ["runs/2.xyz"]
    assert [c.name for c in read_labelled("runs/b").files] == ["runs/b/3.xyz", "runs/b/A.XYZ"]  # not only small letters
    assert [c.name for c in read_labelled("runs/**/*.xyz").files] == ["runs/2.xyz", "runs/b/3.xyz"]
    for part, expected in {"@0:3:2": [0, 2], "@1": [1], "@-1": [2], "@:": [0, 1, 2], "@-2:": [1, 2]}.items():
        found = mlpot.read("runs/2.xyz" + part)
        assert [atoms.info["frame"] for atoms in found] == [f"runs/2.xyz[{k}]" for k in expected]
    for name, message in {
        "runs/*.cif": "no file matches", "runs/4.xyz": "no such file", "runs/2.xyz@7": "has 3 frames",
        "runs/2.xyz@a": "file@start:stop:step", "runs/2.xyz@5:": "holds no structures",
        "runs/2.xyz@::0": "file@start:stop:step", None: "names no file", 3: "names no file", "": "'' names no file",
        "x" * 5000: "name too long",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            mlpot.read(name)


def test_a_file_that_breaks_off_names_the_frame(tmp_path, three):
    file = tmp_path / "a.xyz"
    write(file, three)
    file.write_text("\n".join(file.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(DataError, match=r"a\.xyz\[2\]: the file ends within"):
        mlpot.read(file)


BAD_FRAMES = {
    "empty": (["0", 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 energy=1.0'], "holds no atoms; remove"),
    "text": (["1", "Properties=species:S:1:pos:R:3 energy=unknown", "Si 0 0 0"], "energy = unknown: the energy must be a number"),
    "stress without cell": (
        ["1", 'Properties=species:S:1:pos:R:3 energy=1 stress="1 0 0 0 1 0 0 0 1"', "Si 0 0 0"],
        "a stress without three cell vectors; give the cell, or remove the stress",
    ),
    "virial without cell": (
        ["1", 'Properties=species:S:1:pos:R:3 energy=1 virial="1 0 0 0 1 0 0 0 1"', "Si 0 0 0"],
        "virial without a cell",
    ),
    "overlap": (["2", "Properties=species:S:1:pos:R:3 energy=1", "Si 0 0 0", "Si 0 0 0"], "atoms 0 and 1 .* overlap"),
    "five": (
        ["1", 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 energy=1 stress="1 2 3 4 5"', "Si 0 0 0"],
        r"the stress must be 6 \(xx yy zz yz xz xy\) or 9 numbers",
    ),
    "nan": (["1", "Properties=species:S:1:pos:R:3 energy=nan", "Si 0 0 0"], "energy = nan is not finite"),
    "symbol": (["1", "Properties=species:S:1:pos:R:3 energy=1", "Xq 0 0 0"], r"'Xq' is not known there \(a chemical symbol\?\)"),
    "stars": (["1", "Properties=species:S:1:pos:R:3:forces:R:3 energy=1", "Si 0 0 0 **** **** ****"], "could not convert"),
    "unlabelled": (["1", "Properties=species:S:1:pos:R:3 time=1", "Si 0 0 0"], "no energy, forces or stress attached"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_frame_that_cannot_be_used_is_named_with_its_file(tmp_path, three, name):
    """From the file to the fit, on one line."""
    frame, message = BAD_FRAMES[name]
    good = open(write(tmp_path / "good.xyz", three[:2])).read()
    (tmp_path / "a.xyz").write_text(good + "\n".join(frame) + "\n" + good)
    with pytest.raises((DataError, StructureError), match=rf"^\S*a\.xyz\[2\]: .*{message}") as raised:
        mlpot.fit(mlpot.read(tmp_path / "a.xyz"), mlpot.FitConfig(preset="fast"))
    assert "\n" not in str(raised.value)


def test_a_stress_of_zeros_without_a_cell_is_said_to_be_unused(tmp_path, three):
    good = open(write(tmp_path / "good.xyz", three[:1])).read()
    frame = '1\nProperties=species:S:1:pos:R:3 energy=1 stress="{0} 0 0 0 0 0 0 0 0"\nSi 0 0 0\n'
    (tmp_path / "a.xyz").write_text(good + frame.format(0))
    assert any("the stress, zero, of 1 structure " in note for note in read_labelled(tmp_path / "a.xyz").notes)
    (tmp_path / "a.xyz").write_text(good + frame.format(1))
    assert not any("is not used" in note for note in read_labelled(tmp_path / "a.xyz").notes)


def test_files_of_no_known_format(tmp_path):
    (tmp_path / "a.h5").write_bytes(bytes(100))
    np.savez(tmp_path / "a.npz", R=np.zeros((1, 2, 3)), E=np.zeros(1))  # as sGDML and NequIP have them
    for name in ("a.h5", "a.npz"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read .* format is not known; .* extended XYZ, .* by ase\.io\.write"):
            mlpot.read(tmp_path / name)


def test_extended_xyz_under_any_name(tmp_path, three):
    """ASE takes a .dat for something else, and knows no .txt."""
    for name in ("a.dat", "a.txt", "a.data", "labels"):
        write(tmp_path / name, three)
        assert_labels(mlpot.read(tmp_path / name), three)
