"""Potentials that gap_fit made give QUIP's energies, forces and virials, also from a model file."""

import re

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress
from gap_files import GAP_FIT, GAPS, PAIR, SOAP, fit_gap, fit_gap_on_glue, structures
from typer.testing import CliRunner

import mlpot
from mlpot.commands.main import app

quippy = pytest.importorskip("quippy.potential", reason="quippy-ase is not installed")
if not GAP_FIT.is_file():
    pytest.skip("gap_fit of quippy-ase is not installed", allow_module_level=True)
SHAPES = ("crystal", "gas", "atom", "molecule", "surface")
# potentials whose variances QUIP computes otherwise than from its own covariances
OTHER_VARIANCES = {
    "soap with sigma0": "QUIP's prior variance leaves covariance_sigma0 out and becomes negative",
    "soap with f0": "QUIP adds f0 to the variances of sparse points but not to their covariances",
}
UNSUPPORTED = {
    "diagonal_radial": SOAP + "zeta=2 diagonal_radial=T add_species=T",
    "normalise": SOAP + "zeta=2 normalise=F add_species=T",
    "tail_exponent": PAIR + "tail_exponent=6 tail_range=1.0 add_species=T",
    "signal_mean": PAIR + "f0=0.2 add_species=T",
    "covariance_type": PAIR.replace("ard_se", "pp") + "add_species=T",
}


# like others, with other numbers
LIKE_OTHERS = {
    "soap of two elements", "soap of a list of centres", "distance_2b", "distance_2b of any elements", "sum",
    "angle_3b", "angle_3b with elements twice",
}  # fmt: skip


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in LIKE_OTHERS else ()) for name in GAPS])
def gap(request, tmp_path_factory):
    """Name, elements and XML file of a GAP potential."""
    numbers, text = GAPS[request.param]
    fit = fit_gap_on_glue if request.param == "Glue" else fit_gap
    return request.param, numbers, fit(tmp_path_factory.mktemp("gap"), numbers, text)


def judge(xml, atoms, **options):
    """QUIP's potential after a calculation."""
    arguments = re.search(r'init_args="([^"]*)"', xml.read_text())[1]
    potential = quippy.Potential(arguments, param_filename=str(xml))
    potential.calculate(atoms.copy(), ["energy", "energies", "forces", "stress"], **options)
    return potential


@pytest.mark.parametrize("shape", [pytest.param(shape, marks=() if shape == "gas" else pytest.mark.slow) for shape in SHAPES])
def test_energies_forces_virials_and_variances(gap, shape):
    name, numbers, xml = gap
    atoms = structures(numbers)[shape]
    theirs = judge(xml, atoms, **({} if name in OTHER_VARIANCES else {"calc_args": "local_gap_variance=variance"}))
    agree(xml, atoms, theirs.results)
    if name not in OTHER_VARIANCES:
        ours = mlpot.read_gap(xml).predict(atoms, uncertainty=True)
        np.testing.assert_allclose(ours.energies_std**2, theirs.extra_results["atoms"]["variance"], rtol=1e-5)


def agree(xml, atoms, theirs=None):
    theirs = judge(xml, atoms).results if theirs is None else theirs
    ours = mlpot.read_gap(xml).predict(atoms)
    np.testing.assert_allclose(ours.energy, theirs["energy"], rtol=0, atol=1e-7 * len(atoms))
    np.testing.assert_allclose(ours.energies, theirs["energies"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(ours.forces, theirs["forces"], rtol=0, atol=1e-6)
    virial = -voigt_6_to_full_3x3_stress(theirs["stress"]) * atoms.get_volume()
    np.testing.assert_allclose(ours.virial, virial, rtol=0, atol=1e-6 * len(atoms))


def test_model_file(gap, tmp_path):
    _, numbers, xml = gap
    model = mlpot.read_gap(xml)
    model.save(tmp_path / "m.h5")
    back = mlpot.load_model(tmp_path / "m.h5")
    assert (back.species, back.baseline, back.provenance) == (model.species, model.baseline, model.provenance)
    assert (back.config, back.report, back.factor) == (None, None, None)
    assert (back.jitter, back.regularisation) == (model.jitter, model.regularisation)
    for atoms in structures(numbers).values():
        before, after = model.predict(atoms), back.predict(atoms)
        for name in ("energy", "energies", "forces", "virial"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_the_contract(gap):
    _, numbers, xml = gap
    for result in mlpot.validate_model(mlpot.read_gap(xml), structures(numbers)["gas"]):
        assert result.passed, result


def test_command_line(gap, tmp_path):
    _, _, xml = gap
    result = CliRunner().invoke(app, ["import-gap", str(xml), "-o", str(tmp_path / "m.h5")])
    assert result.exit_code == 0, result.output
    assert mlpot.load_model(tmp_path / "m.h5").provenance["gap_file"] == "gp.xml"


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(14,), (6, 14)])
def test_sparse_points_inside_the_xml(numbers, tmp_path):
    xml = fit_gap(
        tmp_path, numbers, SOAP + "zeta=4 add_species=T : " + PAIR + "add_species=T", sparse_separate_file="F"
    )
    assert not list(tmp_path.glob("*sparseX*"))
    agree(xml, structures(numbers)["gas"])


def test_the_default_of_old_files(tmp_path):
    """Before gap_version 1426512068 the centre's own density always entered the channels of all elements."""
    xml = fit_gap(tmp_path, (6, 14), SOAP + "zeta=4 add_species=T")
    new = mlpot.read_gap(xml).predict(structures((6, 14))["gas"])
    xml.write_text(re.sub('gap_version="[0-9]*"', 'gap_version="1426512067"', xml.read_text()))
    assert abs(mlpot.read_gap(xml).predict(structures((6, 14))["gas"]).energy - new.energy) > 1e-3
    agree(xml, structures((6, 14))["gas"])


@pytest.mark.slow
@pytest.mark.parametrize("key", UNSUPPORTED)
def test_what_is_not_computed_is_refused(key, tmp_path):
    xml = fit_gap(tmp_path, (14,), UNSUPPORTED[key])
    with pytest.raises(mlpot.MlpotError, match=rf"gp\.xml: gpCoordinates 'GAP_.*{key} = "):
        mlpot.read_gap(xml)
