"""A model file in C gives what the compiled model gives in Python: energies, forces, virials, with and without ghost atoms."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from conftest import NOISES, SMALL_TERMS, make_frames
from core_models import FITS, IMPORTED, fewer_elements, ghosted, made, numbers_of, part_of, structures
from core_programs import LINE, sealed, sections
from mlpot._ext.core import CoreModel

import mlpot
from mlpot.errors import ConfigError, ModelFileError, StructureError
from mlpot.models.core_file import sections_of
from mlpot.neighbours import find_pairs
from mlpot.settings.fit import FitConfig
from mlpot.terms.core_terms import kept

NAMES = [*FITS, *IMPORTED]


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Model files as C has loaded them, by the name of the model."""
    folder, loaded = tmp_path_factory.mktemp("core"), {}

    def load(name):
        if name not in loaded:
            made(name).export_core(folder / "model.mlpot")
            loaded[name] = CoreModel(folder / "model.mlpot")
        return loaded[name]

    return load


ROUNDING = {"pairs alone": 1e-6, "pairs alone, lone atoms": 1e-6}
"""Radii of pair terms explain nearly all: what is left is the root of a difference that has lost most of its digits."""


def close(found, expected, tolerance=1e-10):
    size = max(float(np.abs(expected).max(initial=0.0)), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("with_ghosts", [False, True], ids=["images", "ghosts"])
@pytest.mark.parametrize("name", NAMES)
def test_energies_forces_virials(core, name, with_ghosts):
    model, loaded = made(name), core(name)
    assert loaded.species == model.species and loaded.cutoff == model.cutoff
    for atoms in structures(numbers_of(name)).values():
        g, expected = ghosted(atoms, model.cutoff, with_ghosts), model.predict(atoms)
        found = loaded.evaluate(*g.arrays)
        close(found["energies"], expected.energies)
        close(g.returned(found["forces"]), expected.forces)
        close(found["virial"], expected.virial)
        close(found["virials"].reshape(-1, 3, 3), model.compiled.virials(find_pairs(atoms, model.cutoff)))
        assert found["virials"].sum(axis=0) == pytest.approx(found["virial"].ravel(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("with_ghosts", [False, True], ids=["images", "ghosts"])
@pytest.mark.parametrize("name", NAMES)
def test_uncertainty(core, name, with_ghosts):
    model, loaded = made(name), core(name)
    for atoms in structures(numbers_of(name)).values():
        g, expected = ghosted(atoms, model.cutoff, with_ghosts), model.predict(atoms, uncertainty=True)
        parts = loaded.evaluate(*g.arrays, uncertainty=True)
        close(parts["energies"], expected.energies)
        parts["member_forces"] = g.returned(parts["member_forces"])
        of_forces, rounding = expected.forces_std is not None, ROUNDING.get(name, 1e-9)
        own = np.ascontiguousarray(g.numbers[: len(atoms)])
        found = loaded.deviations(own, parts, of_forces)
        close(found["energies_std"], expected.energies_std, rounding)
        if of_forces:
            close(parts["novelty"], expected.novelty, rounding)
            loaded.share_deviations(*g.arrays, found["owed"][g.owner], found["forces_std"])
            close(found["forces_std"], expected.forces_std, 1e-9)
        virial = parts["member_virial"] if of_forces else None
        total, virial_std = loaded.total_deviations(len(atoms), parts["covariances"], parts["unexplained"].sum(), virial)
        assert total == pytest.approx(expected.energy_std, rel=1e-7)
        if of_forces and expected.stress_std is not None:
            close(virial_std, expected.stress_std * atoms.get_volume(), 1e-9)


def loaded_from(model, folder, **options):
    model.export_core(folder / "other.mlpot", **options)
    return CoreModel(folder / "other.mlpot")


def check_all(model, loaded, atoms):
    g, expected = ghosted(atoms, model.cutoff), model.predict(atoms, uncertainty=True)
    parts = loaded.evaluate(*g.arrays, uncertainty=True)
    parts["member_forces"] = g.returned(parts["member_forces"])
    close(parts["energies"], expected.energies)
    close(g.returned(parts["forces"]), expected.forces)
    found = loaded.deviations(np.ascontiguousarray(g.numbers[: len(atoms)]), parts)
    loaded.share_deviations(*g.arrays, found["owed"][g.owner], found["forces_std"])
    close(found["energies_std"], expected.energies_std, 1e-9)
    close(found["forces_std"], expected.forces_std, 1e-9)


@pytest.mark.parametrize("name", ["one element", "balanced", "order 4"])
def test_single_precision(tmp_path, name):
    compiled = made(name).compile(tolerance=1e-6, precision="float32")
    loaded = loaded_from(compiled, tmp_path)
    for atoms in structures(numbers_of(name)).values():
        check_all(compiled, loaded, atoms)


def test_elements_that_stand_for_others(tmp_path):
    """A model that guesses an element through similar ones: in the terms it counts as another, in the density as itself."""
    atoms = make_frames(1, numbers=(29, 46, 47, 79), seed=3)[0]
    terms = [SMALL_TERMS[0], {**SMALL_TERMS[1], "mix": "both", "n_channels": 8, "embedding": "periodic", "symmetric": True}]
    settings = FitConfig(terms=terms, extrapolate=True, check_labels=False, **NOISES)
    model = mlpot.fit(make_frames(4, numbers=(29, 47, 79)), settings).covering(atoms.numbers)
    assert list(model.stand_ins) == [46]
    check_all(model, loaded_from(model, tmp_path), atoms)


def test_a_law_that_grows_with_forces(tmp_path):
    model = made("two elements")
    model = model.calibrated(replace(model.calibration, floors={6: 0.1}, growths={14: 1e-3}, of_elements={6: 1.5}))
    loaded = loaded_from(model, tmp_path)
    for atoms in structures((6, 14)).values():
        check_all(model, loaded, atoms)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("name", ["balanced", "acsf", "zernike, gaussian", "bispectrum", "mbtr"])
def test_every_instruction_set(core, name):
    atoms = structures((6, 14))["crystal"]
    check_all(made(name), core(name), atoms)
    expected = made(name).predict_directly(atoms)  # without the tables of the core
    close(core(name).evaluate(*ghosted(atoms, made(name).cutoff).arrays)["energies"], expected.energies, 1e-4)


@pytest.mark.parametrize("name", ["balanced", "acsf", "chebyshev", "bispectrum chem", "mbtr"])
def test_threads_change_no_bit(core, name):
    g = ghosted(structures((6, 14))["crystal"].repeat((4, 3, 1)), made(name).cutoff)
    one, many = (core(name).evaluate(*g.arrays, n_threads=n, uncertainty=True) for n in (1, 5))
    for name, values in one.items():
        np.testing.assert_array_equal(values, many[name], err_msg=name)


def test_neighbours_in_the_skin_change_nothing(core):
    model, atoms = made("balanced"), structures((6, 14))["crystal"]
    near, far = ghosted(atoms, model.cutoff), ghosted(atoms, model.cutoff + 0.8)
    ours, theirs = (core("balanced").evaluate(*g.arrays, uncertainty=True) for g in (near, far))
    for name in ("energies", "virial", "virials", "posterior", "novelty", "crowding", "strongest", "member_virial", "covariances"):
        close(theirs[name], ours[name], 1e-9)
    close(far.returned(theirs["forces"]), near.returned(ours["forces"]))


def test_files_of_the_version_before_are_read(core, tmp_path):
    """Their sections are those of models without mapped features, and their ensembles have no number of axes."""
    name = "few representatives"
    made(name).export_core(tmp_path / "m.mlpot")
    content = bytearray((tmp_path / "m.mlpot").read_bytes())
    content[8:12] = struct.pack("=I", 2)
    numbers = [k for k, section in enumerate(sections(content)) if section.endswith("m.sizes")]
    assert numbers
    for k in numbers:
        struct.pack_into("=Q", content, LINE * (2 + k) - 8, 4)
    (tmp_path / "m.mlpot").write_bytes(sealed(content))
    g = ghosted(structures((14,))["crystal"], made(name).cutoff)
    found, expected = (model.evaluate(*g.arrays, uncertainty=True) for model in (CoreModel(tmp_path / "m.mlpot"), core(name)))
    for part, values in expected.items():
        np.testing.assert_array_equal(found[part], values, err_msg=part)


def test_structures_without_features(tmp_path):
    """Without an offset, features of a lone atom that are all 0 have no direction."""
    terms = [{"type": "zernike", "cutoff": 3.8, "n_max": 2, "n_sparse": 5, "standardise": False}]
    fitted = mlpot.fit(make_frames(2), FitConfig(terms=terms, check_labels=False, **NOISES))
    (term,) = fitted.terms
    points = tuple(own[:, :-1] / np.linalg.norm(own[:, :-1], axis=1, keepdims=True) for own in term.sparse_features)
    model = replace(fitted, terms=(replace(term, unit=replace(term.unit, offset=0.0), sparse_features=points),))
    lone = Atoms("Si3", [[0, 0, 0], [0, 0, 2.2], [0, 0, 20.0]])
    with pytest.raises(ValueError, match="all features of atom 2 are zero; fit the model with an offset"):
        loaded_from(model, tmp_path, uncertainty=False).evaluate(*ghosted(lone, model.cutoff).arrays)
    with pytest.raises(StructureError, match="all features of atom 2 are zero"):
        model.predict(lone)


def test_weights_of_zero_leave_the_uncertainty(tmp_path):
    """The energy then has no points, and their table no place of its own in a file."""
    model, atoms = made("acsf"), structures((6, 14))["crystal"]
    without = replace(model, weights=np.zeros_like(model.weights))
    check_all(without, loaded_from(without, tmp_path), atoms)
    found, expected = (each.predict(atoms, uncertainty=True).novelty for each in (without, model))
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_atoms_where_a_bispectrum_does_not_begin(tmp_path):
    terms = [{"type": "bispectrum", "cutoff": 3.8, "two_j_max": 2, "n_sparse": 5, "rmin0": 1.5}]
    model = mlpot.fit(make_frames(2), FitConfig(terms=terms, check_labels=False, **NOISES))
    near = Atoms("Si2", [[0, 0, 0], [0, 0, 1.4]])
    with pytest.raises(ValueError, match=r"atoms 0 and 1 are 1\.400 A apart, closer than rmin0 = 1\.5 A"):
        loaded_from(model, tmp_path).evaluate(*ghosted(near, model.cutoff).arrays)
    with pytest.raises(StructureError, match=r"closer than rmin0 = 1\.5 A"):
        model.predict(near)


def test_equal_tables_are_stored_once(tmp_path):
    """The radial functions of mixed channels are those of all elements."""
    made("mixed channels").export_core(tmp_path / "m.mlpot")
    found = sections((tmp_path / "m.mlpot").read_bytes())
    assert found["t1.p0.d.table"] == found["t1.p1.d.table"]


@pytest.mark.parametrize(("change", "match"), [
    ({"numbers": [14, 14, 99]}, "atom 2 has atomic number 99"), ({"numbers": [14, 14, -1]}, "atom 2 has atomic number -1"),
    ({"offsets": [0, 2, 1, 4]}, "centre 1 has -1 neighbours"), ({"offsets": [1, 2, 3, 4]}, "begin with 0"),
    ({"offsets": [0, 1, 2, 3, 4]}, "n_centres = 4 of n_atoms = 3"), ({"neighbours": [1, 2, 0, 3]}, "pair 3: neighbour 3"),
    ({"neighbours": [1, 2, 0, -1]}, "pair 3: neighbour -1"), ({"vectors": np.zeros((4, 3))}, "pair 0: atoms are 0 A apart"),
    ({"vectors": np.full((4, 3), np.nan)}, "pair 0: atoms are -?nan A apart"),
])  # fmt: skip
def test_structures_that_are_refused(core, change, match):
    given = {"numbers": [14, 14, 14], "offsets": [0, 2, 3, 4], "neighbours": [1, 2, 0, 0], "vectors": np.eye(4, 3) + 2} | change
    types = {"numbers": np.int32, "offsets": np.int64, "neighbours": np.int32, "vectors": float}
    with pytest.raises(ValueError, match=match):
        core("one element").evaluate(*(np.array(given[name], kind) for name, kind in types.items()))


@pytest.mark.parametrize("name", ["balanced", "lone atoms", "pairs alone"])
def test_two_processes(core, name):
    """Centres divided between two: what `mlpot_core.h` says of reverse and forward communication, and of sums."""
    model, atoms = core(name), structures((6, 14))["crystal"]
    whole, expected = ghosted(atoms, model.cutoff), made(name).predict(atoms, uncertainty=True)
    centres = [np.arange(0, len(atoms), 2), np.arange(1, len(atoms), 2)]
    parts = [part_of(whole, own) for own in centres]
    found = [model.evaluate(*part.arrays, uncertainty=True) for part in parts]
    forces, members = np.zeros((len(atoms), 3)), np.zeros((len(atoms), 3, 8))
    for part, values in zip(parts, found, strict=True):
        np.add.at(forces, part.owner, values["forces"])
        np.add.at(members, part.owner, values["member_forces"])
    close(forces, expected.forces)
    close(sum(values["virial"] for values in found), expected.virial)
    own, owed = [], np.zeros(len(atoms))
    for part, values, mine in zip(parts, found, centres, strict=True):
        own.append(model.deviations(part.numbers[: len(mine)].copy(), values | {"member_forces": members[mine]}))
        owed[mine] = own[-1]["owed"]
    for part, values, mine in zip(parts, own, centres, strict=True):
        model.share_deviations(*part.arrays, owed[part.owner], values["forces_std"])
        close(values["forces_std"], expected.forces_std[mine], 1e-9)
        close(values["energies_std"], expected.energies_std[mine], ROUNDING.get(name, 1e-9))
    sums = {key: sum(values[key] for values in found) for key in ("covariances", "member_virial")}
    left = sum(values["unexplained"].sum() for values in found)
    energy_std, virial_std = model.total_deviations(len(atoms), sums["covariances"], left, sums["member_virial"])
    assert energy_std == pytest.approx(expected.energy_std, rel=1e-7)
    close(virial_std, expected.stress_std * atoms.get_volume(), 1e-9)


def test_a_process_without_centres(core):
    """All its atoms are ghosts, or there are none."""
    for numbers in ([], [14, 14]):
        found = core("one element").evaluate(
            np.array(numbers, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros((0, 3)), uncertainty=True
        )
        assert found["energies"].shape == (0,) and found["forces"].shape == (len(numbers), 3)
        assert not found["forces"].any() and not found["virial"].any() and not found["member_forces"].any()


def test_files_without_uncertainty(tmp_path):
    model = made("one element")
    loaded = loaded_from(model, tmp_path, uncertainty=False)
    g = ghosted(structures((14,))["crystal"], model.cutoff)
    close(loaded.evaluate(*g.arrays)["energies"], model.predict(structures((14,))["crystal"]).energies)
    with pytest.raises(ValueError, match="exported without uncertainty"):
        loaded.evaluate(*g.arrays, uncertainty=True)


def test_an_imported_potential_has_no_deviations_of_forces(core):
    model = core("three bodies")
    g = ghosted(Atoms("Si"), model.cutoff)
    parts = model.evaluate(*g.arrays, uncertainty=True)
    with pytest.raises(ValueError, match="no uncertainty of forces"):
        model.deviations(g.numbers, parts)


def test_an_older_file_stays(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be written"):
        made("one element").export_core(tmp_path / "none" / "m.mlpot")
    assert not list(tmp_path.iterdir())


def test_an_element_without_points_needs_a_file_without_uncertainty(tmp_path):
    fewer = fewer_elements(made("two elements"))
    with pytest.raises(ConfigError, match=r"\['Si'\] have no sparse points.*without uncertainty"):
        fewer.export_core(tmp_path / "m.mlpot")
    loaded, atoms = loaded_from(fewer, tmp_path, uncertainty=False), structures((6, 14))["crystal"]
    close(loaded.evaluate(*ghosted(atoms, fewer.cutoff).arrays)["energies"], fewer.predict(atoms).energies)


def tables_of(model):
    """The tables of a model's file, in memory."""
    compiled = model.compiled
    return kept(sections_of(compiled.source, compiled.terms, compiled._baseline, compiled._spread))


@pytest.mark.parametrize("name", ["balanced", "three bodies"])
def test_tables_in_memory_are_a_file(core, name):
    """Bit by bit."""
    loaded, g = CoreModel(tables_of(made(name))), ghosted(structures((6, 14))["crystal"], made(name).cutoff)
    theirs = core(name).evaluate(*g.arrays, uncertainty=True)
    for key, values in loaded.evaluate(*g.arrays, uncertainty=True).items():
        np.testing.assert_array_equal(values, theirs[key], err_msg=key)


@pytest.mark.parametrize("name", ["balanced", "pairs alone", "three bodies"])
def test_sums_give_the_parts(core, name):
    """What Python completes, and what the library completes itself."""
    model, pairs = core(name), find_pairs(structures((6, 14))["crystal"], made(name).cutoff)
    arguments = pairs.numbers, pairs.offsets, pairs.j, pairs.vectors
    parts, n = model.evaluate(*arguments, uncertainty=True), len(pairs.numbers)
    energies, gradients, variances, explained = np.empty(n), np.empty((pairs.n_pairs, 3)), np.zeros(n), np.zeros((n, 2))
    covariances, members = np.zeros((n, len(parts["covariances"]))), np.zeros((pairs.n_pairs, 3, 8), np.float32)
    model.predict(*arguments, energies, gradients, 1, covariances, explained, variances, members)
    np.testing.assert_array_equal(energies, parts["energies"])
    np.testing.assert_array_equal(gradients, parts["pair_gradients"])
    if name == "three bodies":
        np.testing.assert_array_equal(variances, parts["unexplained"])
        assert not explained.any() and not members.any()
        return
    close(pairs.forces(members), parts["member_forces"], 1e-6)  # pair gradients are sums over terms in single precision
    close(pairs.virial(members).reshape(-1), parts["member_virial"], 1e-6)
    close(covariances.sum(axis=0), parts["covariances"], 1e-12)
    if name == "balanced":
        np.testing.assert_array_equal(explained[:, 1], parts["posterior"])
        assert np.all(variances - explained[:, 0] >= parts["unexplained"])


@pytest.mark.parametrize(("change", "match"), [
    ({"cutoff": None}, "section cutoff is missing"), ({"t0.kind": np.zeros(3, np.int32)}, r"t0\.kind has 3 numbers of type 2, not 4"),
    ({"species": np.array([6.0, 14.0])}, "species has 2 numbers of type 1"),
    ({"t1.p0.e.reals": np.array([1.0, np.inf])}, "not finite"),
    ({40 * "n": np.zeros(1)}, "needs a short name"), ({"u.starts": np.array([0, 10**6], np.int32)}, "number 1 is 1000000"),
    ({"u.sizes": np.array([10, 2, 3, 0], np.int32)}, "no such representatives"),
])  # fmt: skip
def test_tables_that_are_refused(change, match):
    tables = {name: array for name, array in (tables_of(made("balanced")) | change).items() if array is not None}
    with pytest.raises(ValueError, match=f"tables of a model.*{match}"):
        CoreModel(tables)


def test_a_term_without_points_is_left_out(tmp_path):
    model, atoms = made("two elements"), structures((6, 14))["crystal"]
    empty = replace(model.terms[0], sparse_radii=tuple(np.empty(0) for _ in model.terms[0].sparse_radii))
    more = replace(model, terms=(*model.terms, empty))
    for found in (more.predict(atoms, True), more.compile(1e-9).predict(atoms)):
        close(found.forces, model.predict(atoms).forces, 1e-7)
    check_all(more, loaded_from(more, tmp_path), atoms)
