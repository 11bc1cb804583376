"""Configuration files: errors that name the key and the remedy, templates that are complete."""

import tomllib

import pytest

import mlpot
from mlpot.commands.templates import template
from mlpot.config import read_config
from mlpot.errors import ConfigError
from mlpot.keys.explain import models
from mlpot.learning.dynamics import Course
from mlpot.settings.files import DriverFile, FitFile, LearnFile
from mlpot.settings.labeller import LabellingPlan
from mlpot.settings.targets import TargetSettings
from mlpot.settings.walkers import WalkerSettings

FIT = """
[data]
train = "train.xyz"
[[model.terms]]
type = "soap"
n_max = 8
cutoff = 5.0
[output]
model = "m.h5"
"""
LEARN = """
[structure]
file = "start.xyz"
[output]
folder = "run"
"""


DRIVER = LEARN + "[driver]\n"


@pytest.mark.parametrize(
    ("schema", "text", "old", "new", "message"),
    [
        (FitFile, FIT, "n_max", "nmax", "model.terms[0].nmax: unknown key; did you mean 'n_max'?"),
        (FitFile, FIT, "train =", "trian =", "data.trian: unknown key; did you mean 'train'?"),
        (FitFile, FIT, "[output]", "[outputs]", "outputs: unknown key; did you mean 'output'?"),
        (
            FitFile,
            FIT,
            'type = "soap"',
            'type = "sope"',
            "model.terms[0].type = 'sope': must be one of ['acsf', 'bispectrum', 'chebyshev', 'features', 'mbtr', "
            "'package.module:Class', 'pair', 'soap', 'zernike']",
        ),
        (FitFile, FIT, "cutoff = 5.0", "cutoff = -5.0", "model.terms[0].cutoff = -5.0: must be a positive number (A)"),
        (FitFile, FIT, "cutoff = 5.0", "cutoff = 0.3", "cutoff_width = 0.5 A exceeds cutoff = 0.3 A"),
        (FitFile, FIT, "n_max = 8", 'n_max = "eight"', "model.terms[0].n_max = 'eight'"),
        (FitFile, FIT, 'train = "train.xyz"', "", "data.train: missing"),
        (FitFile, FIT, 'model = "m.h5"', "", "output.model: missing; add it"),
        (FitFile, FIT, "[output]", '[model]\npreset = "fast"\n[output]', "not both"),
        (FitFile, FIT, "[output]", "[output", "is not valid TOML"),
        (FitFile, FIT, "[output]", "[fit]\nforce_noise = 0\n[output]", "fit.force_noise = 0"),
        (LearnFile, LEARN, "[output]", '[learning]\nthreshold = "adaptiv"\n[output]', "learning.threshold"),
        (DriverFile, DRIVER, "[driver]", "[driver]", "driver: give either unix or port"),
        (DriverFile, DRIVER, "[driver]", '[driver]\nunix = "a"\nport = 3', "driver: give either unix or port"),
        (DriverFile, DRIVER, "[driver]", "[driver]\nport = 70000", "port = 70000: must be between 1 and 65535"),
        (DriverFile, DRIVER, "[driver]", '[driver]\nunix = ""', "unix: the name is empty"),
        (LearnFile, LEARN, "[output]", '[dynamics]\nensemble = "nvp"\n[output]', "dynamics.ensemble = 'nvp'"),
        (LearnFile, LEARN, "[output]", '[learning]\nmodel = "a.h5"\n[output]', "learning.model needs the data"),
        (
            LearnFile,
            LEARN,
            "[output]",
            '[[model.terms]]\ntype = "soap"\nmix = "both"\nn_channels = 4\nembedding = "learned"\n[output]',
            "needs data to learn from: name it in data.train",
        ),
        (LearnFile, LEARN, "[output]", "[labeler]\n[output]", "labeler: unknown key; did you mean 'labeller'?"),
        (LearnFile, LEARN, "[output]", '[labeller]\non_failure = "ignore"\n[output]', "labeller.on_failure = 'ignore'"),
        (
            LearnFile,
            LEARN,
            "[output]",
            "[labeller]\nnet_force_tolerance = -1\n[output]",
            "labeller.net_force_tolerance",
        ),
        (LearnFile, LEARN, "[output]", "[labeller]\nworker = 2\n[output]", "did you mean 'workers'?"),
        (LearnFile, LEARN, "[output]", '[labeller]\nexecutor = "dask"\n[output]', "labeller: scheduler: missing"),
        (LearnFile, LEARN, "[output]", '[labeller]\nscheduler = "a"\n[output]', 'scheduler is for executor = "dask"'),
        (
            LearnFile,
            LEARN,
            "[output]",
            "[data]\nisolated_atom_energies = { Xx = 1 }\n[output]",
            "isolated_atom_energies: ['Xx'] are not chemical symbols",
        ),
    ],
)
def test_errors_name_key_value_and_remedy(tmp_path, schema, text, old, new, message):
    file = tmp_path / "config.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_config(file, schema)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert ": :" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "missing.toml", FitFile)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "binary.toml", FitFile)


def test_sections_become_one_fit_config(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(FIT + "[fit]\nforce_noise = 0.07\nseed = 3\n")
    config = read_config(file, FitFile).fit_config()
    assert (config.force_noise, config.seed, config.terms[0].n_max) == (0.07, 3, 8)


def test_ramps(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(LEARN + "[dynamics]\ntemperature_K = [300, 1200]\nsteps = 100\n")
    plan = read_config(file, LearnFile).dynamics
    assert [Course.of(plan).temperature(k) for k in (0, 50, 100)] == [300, 750, 1200]
    file.write_text(LEARN + "[dynamics]\ntemperature_K = [300, 300, 300, 1200]\nsteps = 300\n")
    plan = read_config(file, LearnFile).dynamics
    assert [Course.of(plan).temperature(k) for k in (0, 100, 200, 250, 300, 301)] == [300, 300, 300, 750, 1200, 1200]
    file.write_text(LEARN + "[dynamics]\ntemperature_K = [300]\n")
    with pytest.raises(ConfigError, match="temperature_K"):
        read_config(file, LearnFile)


def test_labelling_plans(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        LEARN
        + '[labeller]\ntimeout_s = 60\nnet_force_tolerance = "off"\nexecutor = "slurm"\nworkers = 4\n'
        + 'fallback = { input_data = { mixing_beta = 0.3 } }\nslurm = { queue = "main", memory = "1GB" }\n'
    )
    plan = read_config(file, LearnFile).labeller
    assert (plan.timeout_s, plan.largest_net_force, plan.workers, plan.on_failure) == (60.0, None, 4, "stop")
    assert plan.fallback == {"input_data": {"mixing_beta": 0.3}}
    assert plan.slurm == {"queue": "main", "memory": "1GB"}
    file.write_text(LEARN)
    assert read_config(file, LearnFile).labeller == LabellingPlan()


def test_walkers_say_what_is_theirs(tmp_path):
    """The rest is that of [structure] and [dynamics]; replicas differ by their seeds."""
    file = tmp_path / "learn.toml"
    file.write_text(
        LEARN + "[dynamics]\nsteps = 70\nseed = 3\n"
        '[[walkers]]\nname = "cold"\ntemperature_K = 100\n[[walkers]]\nname = "hot"\nreplicas = 2\nsteps = 50\n'
        'temperature_K = [300, 900]\nfile = "other.xyz"\n[[walkers]]\nname = "press"\nseed = 3\nensemble = "npt"\npressure_GPa = 5\n'
    )
    found = read_config(file, LearnFile).all_walkers()
    assert [name for name, _, _ in found] == ["cold", "hot-0", "hot-1", "press"]
    assert [structure.file for _, structure, _ in found] == ["start.xyz", "other.xyz", "other.xyz", "start.xyz"]
    assert [dynamics.steps for _, _, dynamics in found] == [70, 50, 50, 70]
    assert [dynamics.ramp for _, _, dynamics in found] == [(100, 100), (300, 900), (300, 900), (300, 300)]
    assert [dynamics.seed for _, _, dynamics in found] == [3, 4, 5, 3]
    assert found[3][2].pressure_GPa == 5
    file.write_text(LEARN)
    assert [name for name, _, _ in read_config(file, LearnFile).all_walkers()] == ["main"]


@pytest.mark.parametrize(
    ("walkers", "message"),
    [
        ('[[walkers]]\nname = "a"\n[[walkers]]\nname = "a"\n', "'a' occurs twice"),
        ('[[walkers]]\nname = "nan"\n', "reads as a number"),
        ('[[walkers]]\nname = "1/2"\n', r"walkers\[0\].name"),
        (
            '[[walkers]]\nname = "a"\ntemperature = 3\n',
            r"walkers\[0\].temperature: unknown key; did you mean 'temperature_K'",
        ),
        ("[learning]\nconverged_after = 100\n", "needs target_error and check labels"),
        ("[learning]\nsoft_fraction = 1.5\n", "soft_fraction"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, walkers, message):
    file = tmp_path / "learn.toml"
    file.write_text(LEARN + walkers)
    with pytest.raises(ConfigError, match=message):
        read_config(file, LearnFile)


@pytest.mark.parametrize(("kind", "schema"), [("fit", FitFile), ("learn", LearnFile)])
def test_templates_are_complete_and_valid(tmp_path, kind, schema):
    text = template(kind, "start.xyz", [6, 14])
    file = tmp_path / "t.toml"
    file.write_text(text)
    read_config(file, schema)
    # with every commented key switched on it is still a configuration, but for keys that exclude each other
    every = "\n".join(
        line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in text.splitlines()
    )
    known = tomllib.loads(every)
    for section, field in schema.model_fields.items():
        if section == "labellers":
            continue  # instead of [labeller]
        if section == "walkers":
            assert all(set(walker) <= set(WalkerSettings.model_fields) for walker in known[section])
            continue
        if section == "targets":
            assert section in known
            assert all(set(target) == set(TargetSettings.model_fields) - {"terms"} for target in known.get(section, []))
            continue
        keys = set(models(field.annotation)[0].model_fields) - {"terms", "config_type_noise"}
        if kind == "learn" and section == "data":
            keys -= {"test"}  # runs do not read it
        assert set(known[section]) == keys


def test_python_settings():
    with pytest.raises(ConfigError, match="nmax"):
        mlpot.FitConfig(terms=[{"type": "soap", "nmax": 4}])
    with pytest.raises(ConfigError, match="not both"):
        mlpot.FitConfig(preset="fast", terms=[{"type": "soap"}])
    with pytest.raises(ConfigError, match="chemical symbols"):
        mlpot.FitConfig(isolated_atom_energies={"Silicon": 1.0})


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[[walkers]]\nname = "a"\nrelax = "cell"\n', 'walkers: a: relax = "cell" is for ensemble = "relax", but ensemble = "nvt"'),
        ('[[walkers]]\nname = "a"\nensemble = "nve"\nfmax = 0.1\n', 'walkers: a: fmax = 0.1 is for ensemble = "relax"'),
        ('[[walkers]]\nname = "a"\npressure_GPa = 2\n', 'walkers: a: pressure_GPa = 2 is for ensemble = "npt"'),
        ("[dynamics]\npressure_GPa = 2\n", 'pressure_GPa = 2 is for ensemble = "npt", but ensemble = "nvt"'),
        ('[dynamics]\nshape = "cell"\n', 'shape = "cell" is for ensemble = "npt"'),
        ('[dynamics]\nensemble = "nve"\nthermostat_fs = 50\n', 'thermostat_fs = 50 is for ensemble = "nvt" or "npt"'),
        ('[dynamics]\nrelax = "cell"\n[[walkers]]\nname = "a"\n', 'relax = "cell" is for ensemble = "relax"'),
        ('[data]\ntest = "a.xyz"\n', "data.test is for `mlpot fit`"),
        ("[labeller]\ntries = 1\nfallback = { a = 1 }\n", "fallback is for the second try"),
    ],
)
def test_keys_without_effect_are_errors(tmp_path, more, problem):
    file = tmp_path / "learn.toml"
    file.write_text('[structure]\nfile = "a.xyz"\n[output]\nfolder = "run"\n' + more)
    with pytest.raises(ConfigError) as error:
        read_config(file, LearnFile)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    "more",
    [
        '[dynamics]\npressure_GPa = 2\n[[walkers]]\nname = "a"\n[[walkers]]\nname = "b"\nensemble = "npt"\n',
        '[dynamics]\nrelax = "cell"\n[[walkers]]\nname = "a"\nensemble = "relax"\n',
        '[dynamics]\nfmax = 0.02\npressure_GPa = 0.0\nrelax = "positions"\n',
    ],
)
def test_keys_that_one_walker_reads_or_that_change_nothing_are_none(tmp_path, more):
    file = tmp_path / "learn.toml"
    file.write_text('[structure]\nfile = "a.xyz"\n[output]\nfolder = "run"\n' + more)
    read_config(file, LearnFile)


@pytest.mark.parametrize(("key", "other"), [('unix = "a"', 'host = "b"'), ("port = 4000", 'prefix = "/tmp/mine_"')])
def test_halves_of_two_addresses(tmp_path, key, other):
    file = tmp_path / "driver.toml"
    file.write_text(f'[structure]\nfile = "a.xyz"\n[driver]\n{key}\n{other}\n[output]\nfolder = "run"\n')
    with pytest.raises(ConfigError, match=f"{other.split()[0]} .*is given; remove one of them"):
        read_config(file, DriverFile)
