"""Numbers of sparse points as tables: in files, in models, in a learner."""

import pytest
from conftest import SMALL_TERMS

import mlpot
from mlpot.config import read_config
from mlpot.errors import ConfigError
from mlpot.learning.learner import Learner
from mlpot.settings.files import FitFile
from mlpot.settings.fit import FitConfig, SoapTermSettings


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n_sparse = 0", "model.terms[0].n_sparse = 0: must be a positive integer"),
        ("n_sparse = { Si = 3, Xx = 2 }", "model.terms[0].n_sparse: ['Xx'] are not chemical symbols"),
        ("n_sparse = { Si = 'all' }", "model.terms[0].n_sparse = {'Si': 'all'}: must be a positive integer"),
        ("n_sparse = {}", "model.terms[0].n_sparse: must be a positive integer"),
        ("config_type_n_sparse = { bulk = 0 }", "model.terms[0].config_type_n_sparse = {'bulk': 0}"),
        ("sparse_tolerance = 0.0", "model.terms[0].sparse_tolerance = 0.0"),
        ("n_sparse = { Si = 300, O = 'auto' }\nconfig_type_n_sparse = { surface = 200, default = 100 }", None),
    ],
)
def test_tables_in_files(tmp_path, line, message):
    file = tmp_path / "fit.toml"
    file.write_text(f'[data]\ntrain = "t.xyz"\n[[model.terms]]\ntype = "soap"\n{line}\n[output]\nmodel = "m.h5"\n')
    if message is None:
        term = read_config(file, FitFile).fit_config().terms[0]
        assert (term.n_sparse_of(14), term.n_sparse_of(8), term.most_sparse(8)) == (300, "auto", 2000)
        assert term.config_type_n_sparse == {"surface": 200, "default": 100}
        return
    with pytest.raises(ConfigError) as error:
        read_config(file, FitFile)
    assert message in str(error.value)


def test_tables_survive_the_model_file(frames, tmp_path):
    terms = [{**SMALL_TERMS[1], "n_sparse": {"Si": 7}, "config_type_n_sparse": {"odd": 2}}]
    model = mlpot.fit(frames, FitConfig(terms=terms))
    model.save(tmp_path / "m.h5")
    assert mlpot.load_model(tmp_path / "m.h5").config.terms == model.config.terms
    assert hash(model.config.terms[0]) == hash(SoapTermSettings.model_validate(model.config.terms[0].model_dump()))


def test_a_learner_takes_the_number_of_each_element(two_species_frames):
    learner = Learner(FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": {"Si": 3, "C": 2}}]), (6, 14))
    learner.begin(two_species_frames, [])
    assert [len(points) for points in learner.model.terms[0].sparse_features] == [2, 3]
    with pytest.raises(ConfigError, match="has no entry for C"):
        Learner(FitConfig(terms=[{**SMALL_TERMS[1], "n_sparse": {"Si": 3}}]), (6, 14))
