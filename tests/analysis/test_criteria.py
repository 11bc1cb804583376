"""`mlpot criteria`: a good descriptor passes, each broken one is caught by its own row and no other."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from broken_descriptors import BROKEN, GOOD
from typer.testing import CliRunner

from mlpot.analysis import scope
from mlpot.analysis.criteria import CRITERIA, Criteria, measure
from mlpot.analysis.criteria_page import write_criteria_page
from mlpot.analysis.foreign import foreign_subject, subject_of_object
from mlpot.analysis.probes import homometric
from mlpot.analysis.reconstruction import Split, global_error, local_error
from mlpot.analysis.ridge_curve import learning_curve
from mlpot.analysis.rows import Row
from mlpot.analysis.sources import source_of_settings
from mlpot.analysis.subject import Subject, subject_of
from mlpot.analysis.uniqueness import difference
from mlpot.commands.main import app
from mlpot.errors import ConfigError, DataError
from mlpot.settings.fit import ModelSettings

TIMELESS = [name for name in CRITERIA if name != "efficiency"]


def failures(made, name, criteria):
    found = measure(subject_of_object(made, name, (), None), criteria)
    return {f"{row.criterion}: {row.name}" for row in found.failed}


def test_a_good_descriptor_passes():
    assert failures(GOOD, "good", ["invariance", "uniqueness"]) == set()


@pytest.mark.parametrize("row", [row for row in BROKEN if not row.startswith("continuity")])  # which takes long: see below
def test_broken_descriptors_are_caught(row):
    assert failures(BROKEN[row], "broken", [row.partition(":")[0]]) == {row}


@pytest.mark.slow
def test_a_good_descriptor_passes_everything():
    assert failures(GOOD, "good", TIMELESS) == set()


@pytest.mark.slow
@pytest.mark.parametrize("row", BROKEN)
def test_each_is_caught_by_no_other_row(row, monkeypatch):
    """Of its own criterion above, except for continuity; the good descriptor has had as many atoms as there are."""
    monkeypatch.setattr(scope, "LARGE", 1000)
    own = row.partition(":")[0]
    others = [name for name in TIMELESS if name != own or own == "continuity"]
    assert failures(BROKEN[row], "broken", others) == ({row} if own == "continuity" else set())


def subject(**settings):
    return subject_of(source_of_settings(ModelSettings(terms=(settings,)), (1, 6), []), "term")


SOAP = {"type": "soap", "n_max": 4, "l_max": 3, "cutoff": 4.0}


@pytest.mark.parametrize("part", [0.05, 0.125, 0.2])
def test_three_densities_distinguish_what_two_do_not(part):
    pair = homometric(6, 1, 1.2, part)
    distances = [np.sort(atoms.get_all_distances().ravel()) for atoms in pair]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-12)
    assert difference(subject(**SOAP), *pair) < 1e-12
    assert difference(subject(**SOAP, order=3), *pair) > 1e-5


def test_analytic_and_numerical_slopes_agree():
    own = subject(**SOAP)
    atoms = homometric(6, 1, 1.2, 0.1)[0]
    np.testing.assert_allclose(replace(own, descriptor=None).slopes(atoms), own.slopes(atoms), atol=1e-8)


def test_reconstruction_knows_what_contains_what():
    """A linear map of features is contained in them; half of them do not contain the rest."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 6))
    split, halves = Split.of(200, rng), (np.arange(10), np.arange(10, 20))
    assert global_error(x, x @ rng.standard_normal((6, 3)), split) < 1e-10
    assert local_error(x, x @ rng.standard_normal((6, 3)), split, halves) < 1e-10
    missing = global_error(x[:, :3], x, split)
    assert 0.6 < missing < 0.85  # sqrt(3 / 6), and a little more
    with pytest.raises(DataError, match="the same in all structures"):
        global_error(x, np.ones((200, 2)), split)


def test_reconstruction_errors_of_skmatter():
    """On its methane manifolds: 0.2291 from power spectrum to bispectrum, as its documentation has, and 0 back."""
    skmatter = pytest.importorskip("skmatter.datasets")
    from sklearn.model_selection import KFold, train_test_split

    data, seed = skmatter.load_degenerate_CH4_manifold().data, 0x5F3759DF
    power, bispectrum = data["SOAP_power_spectrum"], data["SOAP_bispectrum"]
    training, testing = train_test_split(np.arange(len(power)), test_size=0.5, train_size=0.5, random_state=seed)
    halves = next(KFold(2, shuffle=True, random_state=seed).split(training))
    split = Split(training, testing, halves)
    assert abs(global_error(power, bispectrum, split) - 0.22908196202) < 1e-6
    assert global_error(bispectrum, power, split) < 1e-6


def labelled(n):
    frames = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05 + 0.02 * (seed % 5), seed=seed)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        frames.append(atoms)
    return frames


def test_the_learning_curve_falls():
    own = subject_of(source_of_settings(ModelSettings(terms=({**SOAP, "n_max": 3, "l_max": 2},)), [29], []), "soap")
    points = learning_curve(own, labelled(60))
    assert [p["n_structures"] for p in points] == [4, 9, 18, 31, 45]
    assert points[-1]["energy_rmse_mev_per_atom"] < 0.5 * points[-1]["composition_rmse_mev_per_atom"]
    with pytest.raises(DataError, match="needs at least 8"):
        learning_curve(own, labelled(3))


def test_rows_are_documented_and_pages_escape(tmp_path):
    name = "<script>alert(1)</script>"
    rows = (
        Row("invariance", name, 1.0, "relative", 1e-8, name),
        Row("generality", "x", None, note="none", failed=True),
    )
    found = Criteria(name, (1,), 4.0, rows, ())
    write_criteria_page(tmp_path / "c.html", found)
    page = (tmp_path / "c.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert [r["passed"] for r in found.to_dict()["rows"]] == [False, False]
    assert set(found.to_dict()["rows"][0]) == {
        "criterion",
        "name",
        "value",
        "unit",
        "limit",
        "note",
        "failed",
        "passed",
    }


def test_the_command(tmp_path, monkeypatch):
    terms = tmp_path / "terms.toml"
    terms.write_text('[[model.terms]]\ntype = "zernike"\nn_max = 3\n')
    write(tmp_path / "data.xyz", labelled(10))
    found = CliRunner().invoke(
        app,
        ["criteria", "--terms", str(terms), str(tmp_path / "data.xyz"), "--only", "structure", "--json", str(tmp_path / "c.json"),
         "--html", str(tmp_path / "c.html")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["format"] == "mlpot-criteria" and content["elements"] == ["Cu"]
    assert len(content["learning_curve"]) == 5 and {row["criterion"] for row in content["rows"]} == {"structure"}
    assert "learning curve" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "give a model file"),
        (["--python", "nonsense"], "must be"),
        (["--python", "no_such_module:x"], "cannot be imported"),
        (["--python", "broken_descriptors:GOOD", "--arguments", "{}", "--only", "speed"], "must be one of"),
        (["--python", "broken_descriptors:GOOD", "--arguments", "["], "is not valid JSON"),
        (["--python", "broken_descriptors:GOOD", "--arguments", '{"a": 1}'], "is an object already"),
        (["--python", "broken_descriptors:Good", "--arguments", '{"a": 1}'], "cannot be created"),
        (["--python", "broken_descriptors:CUTOFF", "--elements", "H", "--cutoff", "3"], "neither create"),
        (["--terms", "x.toml", "--cutoff", "3"], "are for --python"),
    ],
)
def test_wrong_inputs_are_one_clear_line(arguments, expected):
    found = CliRunner().invoke(app, ["criteria", *arguments])
    assert found.exit_code == 2
    assert expected in found.output and found.output.count("\n") == 1


def test_refused_structures_count_once():
    """A descriptor for molecules and bulk alone is measured on these, and is not general."""

    def picky(atoms):
        if atoms.pbc.any() and not atoms.pbc.all():
            raise ValueError("mixed periods")
        return GOOD.compute(atoms)

    found = measure(Subject("picky", picky, GOOD.species, GOOD.cutoff), ["invariance", "generality"])
    assert [row.name for row in found.failed] == ["structures refused"]
    assert found.failed[0].value == 2 and "mixed periods" in found.failed[0].note


def test_errors_of_foreign_code_are_rows():
    def fails(atoms):
        raise KeyError("missing")

    found = measure(Subject("bad", fails, (1,), 3.0), ["invariance"])
    assert "KeyError" in found.failed[0].note
    with pytest.raises(ConfigError, match="elements are not known"):
        subject_of_object(lambda: None, "x", (), 3.0)
    assert foreign_subject("broken_descriptors:Good", {}, (), None).species == (1, 6)
