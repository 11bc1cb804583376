"""What a fit refuses before it begins, by name; isolated atoms in the data."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import NOISES, SMALL_TERMS, lennard_jones, make_frames

import mlpot
from mlpot.errors import ConfigError, DataError, StructureError
from mlpot.fitting.batch import make_baseline
from mlpot.fitting.data_check import copies, fitting, isolated_atoms, with_isolated_atoms
from mlpot.structures import all_labelled, labelled

CONFIG = mlpot.FitConfig(terms=SMALL_TERMS[:1], check_labels=False, **NOISES)


def with_results(atoms, **results):
    """Attached as they are, whatever they are."""
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results.update(results)
    return atoms


def test_one_calculator_for_all_structures():
    shared, loop = lennard_jones(), [atoms.copy() for atoms in make_frames(3)]
    for atoms in loop:
        atoms.calc = shared
        atoms.get_forces()
    assert labelled(loop[2]).energy == loop[2].get_potential_energy()
    with pytest.raises(DataError, match=r"structure 0: .*labels of other cell and positions: .*SinglePointCalculator"):
        mlpot.fit(loop, CONFIG)


@pytest.mark.parametrize("change", ["positions", "cell", "numbers", "pbc"])
def test_structures_that_were_changed_after_their_calculation(change):
    frames = make_frames(2)
    atoms = frames[1]
    if change == "positions":
        atoms.rattle(0.01)
    elif change == "cell":
        atoms.set_cell(atoms.cell * 1.01)
    elif change == "numbers":
        atoms.numbers[0] = 6
    else:
        atoms.pbc = [True, True, False]
    with pytest.raises(DataError, match=f"structure 1: its calculator holds labels of other {change}:"):
        mlpot.fit(frames, CONFIG)


def test_rounding_and_moments_are_no_change():
    (atoms,) = make_frames(1)
    atoms.positions += 1e-10
    atoms.set_initial_magnetic_moments([1.0] * len(atoms))
    assert labelled(atoms).energy == atoms.calc.results["energy"]


@pytest.mark.parametrize(
    "frame, kind, message",
    [
        (with_results(Atoms(cell=[5] * 3, pbc=True), energy=0.0), StructureError, "holds no atoms"),
        (with_results(Atoms("Si"), energy="-1.0"), DataError, r"energy = '-1.0' is not a number"),
        (with_results(Atoms("Si"), energy=np.nan), DataError, "energy = nan is not finite"),
        (with_results(Atoms("Si"), energy=1 + 0j), DataError, "energy holds complex numbers"),
        (with_results(Atoms("Si"), forces=np.zeros((1, 3), complex)), DataError, "forces holds complex numbers"),
        (with_results(Atoms("Si"), forces=np.zeros((2, 3))), DataError, "forces has 6 components, not 3"),
        (with_results(Atoms("Si"), energy=1.0, stress=np.ones(6)), DataError, "a stress without three cell vectors"),
        (with_results(Atoms("Si", cell=[5] * 3), stress=np.zeros(5)), DataError, "stress has 5 components, not 6 or 9"),
        (with_results(Atoms("Si2", [[0, 0, 0], [0, 0, 0.02]]), energy=0.0), StructureError, "atoms 0 and 1 .* overlap"),
    ],
)
def test_structures_that_cannot_be_used_are_named(frame, kind, message):
    frame.info["frame"] = "a.xyz[7]"
    with pytest.raises(kind, match=rf"^a\.xyz\[7\]: .*{message}") as raised:
        mlpot.fit([*make_frames(2), frame], CONFIG)
    assert "\n" not in str(raised.value)


def test_a_stress_of_zeros_without_a_cell_says_nothing():
    atoms = with_results(molecule("H2O"), energy=-10.0, stress=np.zeros(6))
    assert labelled(atoms).virial is None and labelled(atoms).energy == -10.0


def test_labels_that_nobody_attached_are_said(caplog):
    frames = make_frames(2, stress=False)
    frames[0].info["virial"] = np.eye(3)
    with caplog.at_level(logging.WARNING, "mlpot"):
        fitting(CONFIG, all_labelled(frames), [14])
    assert caplog.messages == [
        "labels in info or arrays are not used: 'virial' (1 of 2); mlpot.read(file) attaches them"
    ]


def test_config_types_that_no_structure_has():
    noises = {"evne": {"energy_noise": 0.5}}
    with pytest.raises(ConfigError, match=r"config_type_noise.evne: no structure .*; did you mean 'even'\?"):
        mlpot.fit(make_frames(2), CONFIG.model_copy(update={"config_type_noise": noises}))
    noises = {"default": {"energy_noise": 0.5}, "odd": {"energy_noise": 0.5}}
    config = mlpot.FitConfig(config_type_noise=noises)
    assert fitting(config, all_labelled(make_frames(2)), [14]) == config


def lone(symbol, energy, config_type=None, cell=None):
    atoms = Atoms(symbol, cell=cell, pbc=cell is not None)
    if config_type:
        atoms.info["config_type"] = config_type
    return with_results(atoms, energy=energy)


@pytest.mark.parametrize("config_type", ["IsolatedAtom", "isolated_atom", "Isolated_Atom"])
def test_isolated_atoms_in_the_data_give_their_energies(config_type):
    frames = [*make_frames(4, numbers=(6, 14)), lone("C", -3.25, config_type, [20] * 3), lone("Si", -1.5)]
    model = mlpot.fit(frames, CONFIG)
    assert model.baseline.isolated_atom_energies == {6: -3.25, 14: -1.5}
    assert not model.report.isolated_atom_energies_fitted


def test_a_crystal_of_one_atom_is_not_isolated():
    assert isolated_atoms(all_labelled([lone("Si", -5.0, cell=[2.5] * 3), lone("Si", -1.0)]))[14].energy == -1.0


def test_elements_without_an_isolated_atom_are_fitted_beside_those_with():
    """Energies of ideal mixtures: 2 and 3 eV an atom; one of them is known."""
    mixtures = [
        with_results(Atoms(f"C{n}Si{6 - n}", np.eye(6)[:, :3] * 9 + np.arange(6)[:, None]), energy=12.0 + n)
        for n in (1, 2)
    ]
    structures = all_labelled([*mixtures, lone("C", 3.0)])
    config = with_isolated_atoms(mlpot.FitConfig(), structures, [6, 14])
    assert config.isolated_atom_energies == {"C": 3.0}
    baseline = make_baseline(config, structures, [6, 14])
    assert baseline.isolated_atom_energies == pytest.approx({6: 3.0, 14: 2.0}) and baseline.lone_atoms == {6: 0.0}
    with pytest.raises(DataError, match=r"no entry for \['Si'\]"):
        with_isolated_atoms(config, structures[:-1], [6, 14])
    assert with_isolated_atoms(config, structures, [6, 14]) == config  # as a fit to them has left it, for the next one


def test_energies_that_were_given_go_before_but_not_against_the_data():
    structures = all_labelled([lone("C", -3.25), lone("Si", -1.5)])
    config = mlpot.FitConfig(isolated_atom_energies={"C": -3.251})
    assert with_isolated_atoms(config, structures, [6, 14]).isolated_atom_energies == {"C": -3.251, "Si": -1.5}
    config = mlpot.FitConfig(isolated_atom_energies={"C": -3.0, "Si": -1.5})
    with pytest.raises(
        ConfigError, match=r"isolated_atom_energies\.C = -3 eV, but structure 0 .* -3\.25 eV; remove one"
    ):
        with_isolated_atoms(config, structures, [6, 14])


def test_isolated_atoms_that_are_none():
    with pytest.raises(DataError, match=r"structure 1: an isolated C of -4 eV, but -3\.25 eV in structure 0"):
        isolated_atoms(all_labelled([lone("C", -3.25), lone("C", -4.0)]))
    (crystal,) = make_frames(1)
    crystal.info["config_type"] = "isolated_atom"
    with pytest.raises(DataError, match=r"structure 0: config_type = 'isolated_atom', but 32 atoms"):
        isolated_atoms(all_labelled([crystal]))


def test_isolated_atoms_are_not_suspected_for_being_alone():
    frames = [*make_frames(6), lone("Si", -1.5)]
    report = mlpot.fit(frames, mlpot.FitConfig(terms=SMALL_TERMS[:1], **NOISES)).report
    assert "structure 6" not in [s.name for s in report.suspicious]
    assert {name: errors.n_structures for name, errors in report.left_out.items()} == {"even": 3, "odd": 3}


def test_structures_that_are_there_twice_are_said(caplog):
    frames = make_frames(3)
    with caplog.at_level(logging.WARNING, "mlpot"):
        mlpot.fit(frames, CONFIG)
        assert "twice" not in caplog.text
        mlpot.fit([*frames, frames[1]], CONFIG)
    assert "1 structure is duplicated (structure 3 = structure 1): duplicates count twice" in caplog.text
    structures = all_labelled(frames)
    assert (
        copies(structures[1:], structures[:2]) == "1 structure is also in the training data (structure 1 = structure 1)"
    )
    assert copies(all_labelled(make_frames(2, seed=5)), structures) == "" == copies(structures)
    zero = frames[0].copy()
    zero.positions[0], zero.cell[0, 1] = 0.0, 0.0
    minus = zero.copy()
    minus.positions[0], minus.cell[0, 1] = -0.0, -0.0
    for atoms in (zero, minus):
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    assert "1 structure is duplicated" in copies(all_labelled([zero, minus]))


@pytest.mark.parametrize(
    "kinds, message", [({"energy"}, "no structure has forces"), ({"stress"}, "no structure has energy or forces")]
)
def test_kinds_of_labels_that_nothing_has_are_said(caplog, kinds, message):
    frames = make_frames(3)
    for atoms in frames:
        atoms.calc.results = {kind: value for kind, value in atoms.calc.results.items() if kind in kinds}
    with caplog.at_level(logging.WARNING, "mlpot"):
        mlpot.fit(frames, CONFIG)
    assert message in caplog.text
