"""`mlpot map`: where structures lie, which occur twice, which are alone, what a model covers; a page that nothing can steer."""

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from scipy.linalg import eigh
from typer.testing import CliRunner

import mlpot
from mlpot.analysis.atlas import make_atlas
from mlpot.analysis.embedding import ZETA, embed, farthest, normalised, remoteness
from mlpot.analysis.map_page import write_map_page
from mlpot.analysis.sources import source_of_settings
from mlpot.commands.main import app
from mlpot.settings.fit import ModelSettings

SOAP = {"type": "soap", "n_max": 4, "l_max": 3, "cutoff": 4.0}


def copper(seed, amplitude=0.05):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(amplitude, seed=seed)
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


def atlas_of(frames, model=None):
    species = [z for atoms in frames for z in atoms.numbers]
    return make_atlas(source_of_settings(ModelSettings(terms=(SOAP,)), species, []), frames, model)


def test_with_all_points_in_the_sketch_it_is_kernel_pca():
    features = normalised(np.random.default_rng(0).standard_normal((40, 7)))
    found = embed(features, np.arange(40))
    kernel = (features @ features.T) ** ZETA
    middle = np.eye(40) - 1 / 40
    sizes, vectors = eigh(middle @ kernel @ middle)
    expected = vectors[:, ::-1][:, :6] * np.sqrt(sizes[::-1][:6])
    np.testing.assert_allclose(np.abs(found.places), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(found.explained, sizes[::-1][:6] / sizes.sum(), atol=1e-9)
    assert sorted(found.sketch.tolist()) == list(range(40))


def test_farthest_points_are_farthest():
    points = np.random.default_rng(1).standard_normal((50, 3))
    chosen = farthest(points, 10)
    for k in range(1, 10):
        distances = np.linalg.norm(points[:, None] - points[None, chosen[:k]], axis=2).min(axis=1)
        assert np.argmax(distances) == chosen[k]


def test_remoteness_counts_other_groups():
    places = np.array([[0.0], [0.1], [5.0], [5.05]])
    np.testing.assert_allclose(remoteness(places, np.array([0, 1, 2, 2])), [0.1, 0.1, 4.9, 4.95])


def test_copies_are_found_and_strangers_too():
    frames = [copper(k) for k in range(12)]
    turned = frames[3][[2, 0, 3, 1]]
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    hole = copper(20)
    del hole[0]
    found = atlas_of([*frames, turned, frames[3], hole])
    assert found.duplicates == [(12, 3), (13, 3)]
    assert found.outliers()[0]["structure"] == 14
    assert found.structures.places.shape == (15, 6)


def test_a_model_says_what_it_covers():
    frames = [copper(k) for k in range(6)]
    model = mlpot.fit(frames, mlpot.FitConfig(terms=({**SOAP, "n_sparse": 12},)))
    far = copper(30, 0.6)
    found = atlas_of([*frames, far, Atoms("O")], model)
    oxygen_row, copper_row = found.coverage()
    assert 1 <= copper_row["novel"] <= 4 and copper_row["environments"] == 28
    assert oxygen_row == {"element": "O", "environments": 1, "novel": 1, "largest_novelty": None}
    assert np.argmax(found.per_structure["largest_novelty"][:7]) == 6
    np.testing.assert_allclose(found.per_structure["energy_error_eV_per_atom"][0], abs(
        model.predict(frames[0]).energy - frames[0].get_potential_energy()) / 4, rtol=1e-9)  # fmt: skip


def test_names_cannot_become_markup(tmp_path):
    frames = [molecule("H2O"), molecule("H2O"), molecule("NH3")]
    evil = "</script><script>alert(1)</script><img src=http://x>"
    for atoms in frames:
        atoms.info["config_type"] = atoms.info["frame"] = evil
    write_map_page(tmp_path / "m.html", atlas_of(frames), evil)
    page = (tmp_path / "m.html").read_text()
    assert page.count("<script") == 2 and "<img" not in page
    assert not re.search(r"<[^>]*(src|href)\s*=\s*[\"']?(http|//)", page)
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)["structures"]["config_type"] == [evil] * 3


def test_the_command(tmp_path):
    write(tmp_path / "data.xyz", [copper(k) for k in range(4)])
    output = tmp_path / "m.html"
    found = CliRunner().invoke(
        app, ["map", str(tmp_path / "data.xyz"), "-o", str(output), "--json", str(tmp_path / "m.json")]
    )
    assert found.exit_code == 0, found.output
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["format"] == "mlpot-map" and len(content["structures"]["x"]) == 4
    assert len(content["environments"]["Cu"]["x"]) == len(content["environments"]["Cu"]["force_eV_per_A"]) == 16
    assert "canvas" in output.read_text()


@pytest.mark.parametrize("output, expected", [("m.txt", "end its name with .html"), ("no/m.html", "does not exist")])
def test_wrong_inputs_are_one_clear_line(tmp_path, output, expected):
    write(tmp_path / "data.xyz", molecule("H2O"))
    found = CliRunner().invoke(app, ["map", str(tmp_path / "data.xyz"), "-o", str(tmp_path / output)])
    assert found.exit_code == 2 and expected in found.output
    write(tmp_path / "one.xyz", Atoms("H"))
    found = CliRunner().invoke(app, ["map", str(tmp_path / "one.xyz"), "-o", str(tmp_path / "m.html")])
    assert found.exit_code == 2 and "at least three atoms" in found.output
