"""Outputs of VASP, Quantum ESPRESSO, CP2K and DeePMD: the right steps with the right numbers, and what is left out is counted."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from conftest import make_frames

import mlpot
from mlpot.data.reading import read_labelled
from mlpot.errors import DataError
from mlpot.structures import all_labelled, read_structures

REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
NOT_REACHED = (
    "------------------------ aborting loop EDIFF was not reached (unconverged)  ----------------------------\n"
)
KBAR = 0.1 * units.GPa
HEADER = """\
 vasp.6.4.2 20Jul23 (build ...) complex
 POTCAR:    PAW_PBE Si 05Jan2001
 POTCAR:    PAW_PBE Si 05Jan2001
   VRHFIN =Si: s2p2
   ions per type =              32
   ISPIN  =      1    spin polarized calculation?
   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps
"""
DFT, ML = "", "ML "


def table(atoms):
    rows = np.hstack([atoms.positions, atoms.get_forces()]).tolist()
    return "".join("  " + " ".join(f"{x:.10f}" for x in row) + "\n" for row in rows)


def outcar_step(atoms, number, n_iterations=3, verdict=REACHED, kind=DFT, energy=None):
    """An ionic step as VASP writes it, of DFT or of its own potential."""
    energy = atoms.get_potential_energy() if energy is None else energy
    iterations = [f"------------- Iteration {number:6d}({k + 1:4d})  -------------\n" for k in range(n_iterations)]
    stress = -atoms.get_stress()[[0, 1, 2, 5, 3, 4]] / KBAR
    cell = "".join("  " + " ".join(f"{x:.10f}" for x in [*row, 0, 0, 0]) + "\n" for row in atoms.cell)
    title = " POSITION                                       TOTAL-FORCE (eV/Angst)" + (" (ML)" if kind else "") + "\n"
    return "".join([
        *([*iterations, verdict] if not kind else [" ML FORCE on cell =-STRESS in cart. coord. units (eV/cell)\n"]),
        "  in kB   " + " ".join(f"{x:.8f}" for x in stress) + "\n",
        "      direct lattice vectors                 reciprocal lattice vectors\n", cell, "\n",
        title, " ---------\n", table(atoms), " ---------\n",
        f"  {kind}FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ------------\n",
        f"  free  energy {kind or '  '}TOTEN  = {energy:18.8f} eV\n\n",
        f"  {kind}energy  without entropy= {energy:17.8f}  {kind}energy(sigma->0) = {energy:17.8f}\n\n",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def three():
    return make_frames(3)


def assert_read(found, expected):
    """Labels of ASE's names and signs, to the digits of the files."""
    assert len(found) == len(expected)
    for structure, atoms in zip(all_labelled(found), expected, strict=True):
        np.testing.assert_allclose(structure.atoms.positions, atoms.positions, atol=1e-8)
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=1e-8)
        np.testing.assert_allclose(
            structure.virial, -atoms.get_stress(voigt=False) * atoms.get_volume(), rtol=1e-5, atol=1e-5
        )


def test_every_step_of_an_outcar(tmp_path, three):
    file = tmp_path / "OUTCAR"
    file.write_text(HEADER + "".join(outcar_step(atoms, k + 1) for k, atoms in enumerate(three)))
    data = read_labelled(file)
    assert_read(data.frames, three)
    assert not any("left out" in note for note in data.notes)


@pytest.mark.parametrize(
    "verdict, n", [(NOT_REACHED, 3), (NOT_REACHED, 60), ("", 60), ("aborting loop because hard stop was set\n", 3)]
)
def test_unconverged_steps_of_an_outcar_are_left_out_and_counted(tmp_path, three, verdict, n):
    file = tmp_path / "OUTCAR"
    steps = [outcar_step(three[0], 1), outcar_step(three[1], 2, n, verdict), outcar_step(three[2], 3)]
    file.write_text(HEADER + "".join(steps))
    data = read_labelled(file)
    assert_read(data.frames, [three[0], three[2]])
    assert data.files[0].structures == 2
    assert f"{file}: left out: 1 step without electronic convergence" in data.notes
    assert [atoms.info["frame"] for atoms in data.frames] == [f"{file}[0]", f"{file}[2]"]
    assert len(read_structures(file)) == 3, "as a start any structure will do"


def test_convergence_in_the_last_step_allowed_is_convergence(tmp_path, three):
    file = tmp_path / "OUTCAR"
    file.write_text(HEADER + outcar_step(three[0], 1, 60) + outcar_step(three[1], 2, 2, verdict=""))
    assert_read(mlpot.read(file), three[:2])


def test_a_file_without_any_converged_step_is_an_error(tmp_path, three):
    file = tmp_path / "OUTCAR"
    file.write_text(HEADER + outcar_step(three[0], 1, 60, NOT_REACHED))
    with pytest.raises(
        DataError, match=r"no structure is left: .*OUTCAR: left out: 1 step without electronic convergence"
    ):
        mlpot.read(file)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_steps_of_vasps_own_potential_are_not_dft(tmp_path, three, suffix):
    """Predicted, predicted and then calculated, calculated alone, predicted twice."""
    file = tmp_path / f"OUTCAR{suffix}"
    text = HEADER + "".join([
        outcar_step(three[0], 1, kind=ML, energy=-1000.0),
        outcar_step(three[1], 2, kind=ML, energy=-1000.0), outcar_step(three[1], 2),
        outcar_step(three[2], 3),
        outcar_step(three[0], 4, kind=ML, energy=-1000.0), outcar_step(three[0], 5, kind=ML, energy=-1000.0),
    ])  # fmt: skip
    file.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    data = read_labelled(file)
    assert_read(data.frames, three[1:])
    assert f"{file}: left out: 3 steps of VASP's own potential (ML_LMLFF)" in data.notes


def test_a_run_of_vasps_own_potential_alone_is_an_error(tmp_path, three):
    file = tmp_path / "OUTCAR"
    file.write_text(HEADER + "".join(outcar_step(atoms, k, kind=ML) for k, atoms in enumerate(three)))
    with pytest.raises(DataError, match=r"holds no structures but 3 steps of VASP's own potential \(ML_LMLFF\)"):
        mlpot.read(file)


def test_an_outcar_that_breaks_off(tmp_path, three):
    file = tmp_path / "OUTCAR"
    text = HEADER + outcar_step(three[0], 1) + outcar_step(three[1], 2)
    for cut in (text.rindex("POSITION"), text.rindex("free  energy"), text.rindex("energy  without")):
        file.write_text(text[:cut])
        assert_read(mlpot.read(file), three[:1])


def xml_step(atoms, n=3, change=0.0):
    """<calculation> of vasprun.xml with n electronic steps whose last two energies differ by `change`."""
    energy = atoms.get_potential_energy()
    changes = [change if k == n - 1 else 0.0 for k in range(n)]
    energies = "".join(f'<i name="{name}">{{0:.10f}}</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
    electronic = "".join(f"<scstep><energy>{energies.format(energy + c)}</energy></scstep>" for c in changes)
    return f"<calculation>{electronic}{contents(atoms)}<energy>{energies.format(energy)}</energy></calculation>"


def contents(atoms, name=""):
    vectors = {
        "basis": atoms.cell.array, "positions": atoms.get_scaled_positions(wrap=False), "forces": atoms.get_forces(),
        "stress": -atoms.get_stress(voigt=False) / KBAR,
    }  # fmt: skip
    arrays = {
        key: f'<varray name="{key}">'
        + "".join(f"<v>{' '.join(f'{x:.14f}' for x in row)}</v>" for row in rows)
        + "</varray>"
        for key, rows in vectors.items()
    }
    structure = f"<structure{name}><crystal>{arrays['basis']}</crystal>{arrays['positions']}</structure>"
    return structure if name else structure + arrays["forces"] + arrays["stress"]


def vasprun(file, *steps):
    atoms = make_frames(1)[0]
    rows = "<rc><c>Si</c><c>1</c></rc>" * len(atoms)
    parameters = (
        '<parameters><separator><i type="int" name="NELM">20</i><i name="EDIFF">0.00001</i></separator></parameters>'
    )
    kinds = f'<atominfo><array name="atoms"><set>{rows}</set></array></atominfo>'
    points = (
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>'
    )
    start = contents(atoms, ' name="initialpos"')
    file.write_text(f"<?xml version='1.0'?><modeling>{points}{parameters}{kinds}{start}{''.join(steps)}</modeling>")
    return file


def test_vasprun_leaves_out_what_has_not_converged(tmp_path, three):
    file = vasprun(
        tmp_path / "vasprun.xml", xml_step(three[0]), xml_step(three[1], 20, 1e-3), xml_step(three[2], 20, 1e-7)
    )
    data = read_labelled(file)
    assert_read(data.frames, [three[0], three[2]])
    assert f"{file}: left out: 1 step without electronic convergence" in data.notes


def test_vasprun_leaves_out_what_is_no_dft(tmp_path, three):
    own = xml_step(three[0], 0)
    outside = contents(three[0]) + '<energy><i name="e_fr_energy">-1000.0</i></energy>'
    file = vasprun(tmp_path / "vasprun.xml", own, xml_step(three[1]), outside, own, xml_step(three[2]))
    data = read_labelled(file)
    assert_read(data.frames, three[1:])
    assert f"{file}: left out: 3 steps of VASP's own potential (ML_LMLFF)" in data.notes
    with pytest.raises(DataError, match="holds no structures but 2 steps of VASP's own potential"):
        mlpot.read(vasprun(tmp_path / "vasprun.xml", own, outside))


@pytest.mark.parametrize("first", [xml_step, lambda atoms: xml_step(atoms, 0)])
def test_a_vasprun_that_breaks_off(tmp_path, three, first):
    file = vasprun(tmp_path / "vasprun.xml", first(three[0]), xml_step(three[1]), xml_step(three[2]))
    text = file.read_text()
    file.write_text(text[: text.rindex("<structure>") + 100])
    expected = three[:2] if first is xml_step else three[1:2]
    assert_read(mlpot.read(file), expected)


PSEUDO = Path("/usr/share/espresso/pseudo")
PW = """\
&control calculation='md' dt=20 nstep={steps} pseudo_dir='{pseudo}' outdir='{folder}' tprnfor=.true. tstress=.true. /
&system ibrav=2 celldm(1)=10.2 nat=2 ntyp=1 ecutwfc=8 /
&electrons electron_maxstep={most} scf_must_converge=.false. conv_thr={threshold} /
&ions /
ATOMIC_SPECIES
Si 28.0 Si.pz-vbc.UPF
ATOMIC_POSITIONS alat
Si 0.01 0.00 0.00
Si 0.25 0.25 0.25
K_POINTS gamma
"""


@pytest.mark.skipif(
    shutil.which("pw.x") is None or not (PSEUDO / "Si.pz-vbc.UPF").exists(),
    reason="pw.x or its pseudopotentials are missing: apt-get install quantum-espresso quantum-espresso-data",
)
def test_steps_of_pw_that_have_not_converged(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, most, threshold in (("good", 50, 1e-8), ("bad", 2, 1e-13)):
        text = PW.format(steps=2, pseudo=PSEUDO, folder=tmp_path / name, most=most, threshold=threshold)
        with open(tmp_path / f"{name}.out", "w") as out:
            subprocess.run(["pw.x"], input=text, stdout=out, text=True, timeout=120, cwd=tmp_path)
    data = read_labelled(tmp_path / "good.out")
    assert data.files[0].energies == data.files[0].forces == data.files[0].stresses == len(data.frames) >= 2
    assert not any("left out" in note for note in data.notes)
    assert len(read_structures(tmp_path / "bad.out")) == 2
    with pytest.raises(
        DataError, match=r"no structure is left: .*bad.out: left out: \d steps without electronic convergence"
    ):
        mlpot.read(tmp_path / "bad.out")


def deepmd(folder, frames, nopbc=False, symbols="Si\nGe\n"):
    """A DeePMD system as its users have it: type.raw, type_map.raw and set.000/*.npy."""
    (folder / "set.000").mkdir(parents=True)
    numbers = [14, 32]
    types = [numbers.index(z) for z in frames[0].numbers]
    (folder / "type.raw").write_text("\n".join(map(str, types)))
    if symbols:
        (folder / "type_map.raw").write_text(symbols)
    if nopbc:
        (folder / "nopbc").touch()
    tables = {
        "coord": [a.positions.ravel() for a in frames], "box": [a.cell.array.ravel() for a in frames],
        "energy": [a.get_potential_energy() for a in frames], "force": [a.get_forces().ravel() for a in frames],
        "virial": [(-a.get_stress(voigt=False) * a.get_volume()).ravel() for a in frames],
    }  # fmt: skip
    for name, rows in tables.items():
        np.save(folder / "set.000" / f"{name}.npy", np.array(rows))
    return folder


@pytest.fixture(scope="module")
def of_one_order():
    """Frames of the same atoms in the same order, as DeePMD's systems are, sorted by element."""
    frames = []
    for k in range(3):
        (atoms,) = make_frames(1, seed=k)
        atoms.numbers[16:] = 32
        atoms.calc.atoms.numbers[16:] = 32
        frames.append(atoms)
    return frames


def test_a_deepmd_system(tmp_path, of_one_order):
    pytest.importorskip("dpdata")
    folder = deepmd(tmp_path / "system", of_one_order)
    data = read_labelled(folder)
    assert_read(data.frames, of_one_order)
    assert all(np.array_equal(a.numbers, of_one_order[0].numbers) for a in data.frames)
    assert data.files[0].name == str(folder) and data.frames[1].info["frame"] == f"{folder}[1]"
    deepmd(tmp_path / "other", of_one_order[:1])
    assert [file.structures for file in read_labelled(tmp_path / "*").files] == [1, 3]
    assert len(mlpot.read(f"{folder}@1:")) == 2


def test_a_deepmd_system_of_molecules(tmp_path, of_one_order):
    pytest.importorskip("dpdata")
    (atoms, *_) = mlpot.read(deepmd(tmp_path / "system", of_one_order, nopbc=True))
    assert not atoms.pbc.any() and atoms.cell.rank == 0 and "stress" not in atoms.calc.results


def test_a_deepmd_system_without_names_of_its_types(tmp_path, of_one_order):
    pytest.importorskip("dpdata")
    folder = deepmd(tmp_path / "system", of_one_order, symbols="")
    with pytest.raises(DataError, match=r"system: \['Type_0', 'Type_1'\] are not chemical symbols; .* type_map.raw"):
        mlpot.read(folder)


CP2K = """\
 DBCSR| CPU Multiplication driver                                           XSMM (U)
 CP2K| version string:                                       CP2K version 2023.1
 CELL| Volume [angstrom^3]:                                         125.000000
 CELL| Vector a [angstrom]:       5.000     0.000     0.000   |a| =     5.000000
 CELL| Vector b [angstrom]:       0.000     5.000     0.000   |b| =     5.000000
 CELL| Vector c [angstrom]:       0.000     0.000     5.000   |c| =     5.000000
  1. Atomic kind: O                                     Number of atoms:       1
  2. Atomic kind: H                                     Number of atoms:       1
 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM
   Atom Kind Element         X             Y             Z       Z(eff)     Mass

      1    1 O    8      0.000000      0.000000      0.000000   6.0000  15.9994
      2    2 H    1      1.000000      0.000000      0.000000   1.0000   1.0079

  *** SCF run {verdict}converged in    10 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.000000000000000
 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      O           0.01000000     0.00000000     0.00000000
      2      2      H          -0.01000000     0.02000000     0.00000000
 SUM OF ATOMIC FORCES           0.00000000     0.02000000     0.00000000
 STRESS TENSOR [GPa]

            X               Y               Z
  X       2.00000000      0.00000000      0.00000000
  Y       0.00000000      1.00000000      0.00000000
  Z       0.00000000      0.00000000      0.50000000

"""


def test_an_output_of_cp2k(tmp_path):
    pytest.importorskip("dpdata")
    for name in ("cp2k.out", "cp2k.log", "run"):
        (tmp_path / name).write_text(CP2K.format(verdict=""))
        (s,) = all_labelled(mlpot.read(tmp_path / name))
        assert list(s.atoms.symbols) == ["O", "H"] and s.energy == pytest.approx(-17 * units.Hartree, rel=1e-5)
        assert s.forces[1] == pytest.approx(np.array([-0.01, 0.02, 0]) * units.Hartree / units.Bohr, rel=1e-5)
        assert np.diag(s.virial) == pytest.approx(np.array([2, 1, 0.5]) * units.GPa * 125, rel=1e-4)


@pytest.mark.parametrize(
    "text, problem",
    [
        (CP2K.format(verdict="NOT "), "its SCF has not converged"),
        (CP2K.format(verdict="") * 2, "it has several energies"),
    ],
)
def test_outputs_of_cp2k_that_are_no_label(tmp_path, text, problem):
    (tmp_path / "cp2k.out").write_text(text)
    with pytest.raises(DataError, match=rf"cp2k.out: {problem}; of CP2K, outputs of single structures"):
        mlpot.read(tmp_path / "cp2k.out")


def test_without_dpdata_one_line_says_what_to_install(tmp_path, of_one_order, monkeypatch):
    monkeypatch.setitem(sys.modules, "dpdata", None)
    with pytest.raises(DataError, match=r'^\S+system: is a DeePMD system, .*; pip install "mlpot\[formats\]"$'):
        mlpot.read(deepmd(tmp_path / "system", of_one_order))
    (tmp_path / "cp2k.out").write_text(CP2K.format(verdict=""))
    with pytest.raises(DataError, match=r'cp2k.out: is an output of CP2K, .*; pip install "mlpot\[formats\]"$'):
        mlpot.read(tmp_path / "cp2k.out")


def test_ase_agrees_where_there_is_nothing_to_leave_out(tmp_path, three):
    (tmp_path / "OUTCAR").write_text(HEADER + "".join(outcar_step(atoms, k) for k, atoms in enumerate(three)))
    for ours, theirs in zip(mlpot.read(tmp_path / "OUTCAR"), ase.io.read(tmp_path / "OUTCAR", ":"), strict=True):
        assert ours == theirs
        np.testing.assert_array_equal(ours.get_stress(), theirs.get_stress())


def test_of_the_folder_of_a_run_every_step_is_read_once(tmp_path, three):
    (tmp_path / "OUTCAR").write_text(HEADER + "".join(outcar_step(atoms, k) for k, atoms in enumerate(three)))
    (tmp_path / "XDATCAR").write_text("no labels")
    assert [file.name for file in read_labelled(tmp_path).files] == [str(tmp_path / "OUTCAR")]
    vasprun(tmp_path / "vasprun.xml", *map(xml_step, three))
    data = read_labelled(tmp_path)
    assert [file.name for file in data.files] == [str(tmp_path / "vasprun.xml")]
    assert_read(data.frames, three)
    for name in ("OUTCAR", "vasprun.xml"):  # as they are kept on disks of clusters
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        assert len(read_labelled(tmp_path).files) == 1
        (tmp_path / name).unlink()
    assert_read(read_labelled(tmp_path).frames, three)


def test_what_is_left_out_of_several_files_is_counted_together(tmp_path, three):
    for k in range(3):
        steps = outcar_step(three[0], 1, verdict=NOT_REACHED) * k + outcar_step(three[k], 2)
        (tmp_path / f"OUTCAR_{k}").write_text(HEADER + steps)
    data = read_labelled(tmp_path)
    assert data.notes[0] == f"{tmp_path}/OUTCAR_1 and 1 more: left out: 3 steps without electronic convergence"
    assert_read(data.frames, three)
