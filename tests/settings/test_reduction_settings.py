"""Keys of a term that reduce its power spectrum: in files and in Python."""

import pytest

from mlpot.config import read_config
from mlpot.descriptors.mixing import Mixing
from mlpot.errors import ConfigError
from mlpot.settings.files import FitFile
from mlpot.settings.fit import SoapTermSettings

FIT = '[data]\ntrain = "t.xyz"\n[[model.terms]]\ntype = "soap"\n{}\n[output]\nmodel = "m.h5"\n'


def test_by_default_the_power_spectrum_is_whole():
    assert SoapTermSettings().is_whole
    assert SoapTermSettings(z_map=[], mix="none", nu_R=2).is_whole
    assert SoapTermSettings(mix_seed=3).is_whole  # contractions of higher order have random sums too


@pytest.mark.parametrize(
    ("lines", "mixing"),
    [
        ("nu_S = 1", Mixing(nu_S=1)),
        ("nu_R = 1\nnu_S = 0", Mixing(nu_R=1, nu_S=0)),
        ("diagonal_radial = true", Mixing(diagonal_radial=True)),
        (
            'mix = "species"\nn_channels = 8\nsymmetric = true\ncoupling = "element-wise"\nmix_seed = 3',
            Mixing(mix="species", n_channels=8, symmetric=True, coupling="element-wise", mix_seed=3),
        ),
        ('z_map = [["Nb", "Ta"], ["Mo", "W"]]', Mixing(z_map=(("Nb", "Ta"), ("Mo", "W")))),
        (
            'z_map = [["Nb", "Ta"]]\nz_map_other = [["Nb", "Ta", "Mo", "W"]]',
            Mixing(z_map=(("Nb", "Ta"),), z_map_other=(("Nb", "Ta", "Mo", "W"),)),
        ),
    ],
)
def test_keys_in_files(tmp_path, lines, mixing):
    file = tmp_path / "fit.toml"
    file.write_text(FIT.format(lines))
    term = read_config(file, FitFile).fit_config().terms[0]
    assert not term.is_whole
    assert {key: getattr(term, key) for key in Mixing.model_fields} == dict(mixing)
    assert SoapTermSettings.model_validate_json(term.model_dump_json()) == term
    assert hash(term) == hash(SoapTermSettings.model_validate(term.model_dump()))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('mix = "elements"', "mix = 'elements'"),
        ("nu_R = 3", "nu_R = 3"),
        ("n_channels = 0", "n_channels = 0"),
        ('mix = "both"', 'mix = "both" needs n_channels'),
        ("n_channels = 8", 'n_channels = 8 has no effect with mix = "none"'),
        ('z_map = ["Nb,Ta"]', "z_map = ['Nb,Ta']: must be groups of chemical symbols"),
        ('z_map = "Nb"', "z_map = 'Nb': must be groups of chemical symbols"),
        ("z_map = [[41]]", "z_map = [[41]]: ['41'] are not chemical symbols"),
        ('z_map = [["Nb", "Xx"]]', "['Xx'] are not chemical symbols; use symbols such as Si"),
        ('z_map = [["Nb", "Ta"], ["Ta"]]', "Ta is in two groups"),
        ('z_map = [["Nb", "Ta"]]\nnu_S = 1', "nu_S = 1 sums over the groups of z_map"),
        ("n_chanels = 8", "unknown key; did you mean 'n_channels'?"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, message):
    file = tmp_path / "fit.toml"
    file.write_text(FIT.format(lines))
    with pytest.raises(ConfigError) as error:
        read_config(file, FitFile)
    assert "model.terms[0]" in str(error.value)
    assert message in str(error.value)


def test_python_refuses_as_files_do():
    with pytest.raises(ConfigError, match="has no effect"):
        SoapTermSettings(symmetric=True)
