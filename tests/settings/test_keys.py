"""Every key is declared once, with a unit and a sentence; wrong values are errors in our words; documents follow from the keys."""

import copy
import dataclasses
import importlib
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
import tomllib
import traceback
from collections import defaultdict
from contextlib import contextmanager
from datetime import date, datetime, time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AllowInfNan, Field, TypeAdapter, ValidationError
from radial_functions import PATH

import mlpot
from mlpot.errors import ConfigError
from mlpot.keys.base import Settings
from mlpot.keys.explain import kinds, models, of_field, plainly, units, words
from mlpot.keys.toml_text import toml_section, toml_value
from mlpot.settings.describe import SECTIONS, comment, default_text, filled, reference
from mlpot.settings.files import DriverFile, FitFile, LearnFile, TuneFile
from mlpot.settings.labeller import LabellingPlan
from mlpot.settings.learning import LearningSettings, Rules
from mlpot.settings.output import FitOutput

ROOT = Path(__file__).resolve().parents[2]
THEIRS = ("input should", "validation error", "type=", "pydantic", "value error", "extra inputs", "field required", "unable to parse")
BASE = {"structure": {"file": "a.xyz"}, "output": {"folder": "run"}}
FILES = {
    "fit": (FitFile, {"data": {"train": "a.xyz"}, "output": {"model": "m.h5"}}),
    "learn": (LearnFile, BASE),
    "driver": (DriverFile, {**BASE, "driver": {"unix": "a"}}),
    "tune": (TuneFile, {"data": {"train": "a.xyz"}, "output": {"model": "m.h5"}}),
}
INSIDE = {
    "[[targets]]": lambda keys: {"targets": [{"name": "dipole", **keys}]},
    "[[targets.terms]]": lambda keys: {"targets": [{"name": "dipole", "terms": [keys]}]},
    "[[data.sets]]": lambda keys: {"data": {"sets": [{"files": "b.xyz"} | keys]}},
    "[fit.config_type_noise.NAME]": lambda keys: {"fit": {"config_type_noise": {"surface": keys}}},
    "[labeller.tls]": lambda keys: {"labeller": {"tls": {"ca": "a", "certificate": "b", "key": "c"} | keys}},
    "[[walkers]]": lambda keys: {"walkers": [{"name": "a"} | keys]},
    "[[labellers]]": lambda keys: {"labellers": [{"name": "a", "level": "cheap"} | keys]},
}
KEYS = [(title, key) for title, (section, _) in SECTIONS.items() for key in section.model_fields]


def whole(title, keys):
    """A file with keys in a section, and the class of the file."""
    command = SECTIONS[title][1].split(", ")[0]
    schema, base = FILES[command]
    if title.startswith("[[model.terms]]"):
        kind = tomllib.loads(title.removeprefix("[[model.terms]] "))["type"]
        part = {"model": {"terms": [{"type": PATH if ":" in kind else kind, **keys}]}}
    elif title in INSIDE:
        part = INSIDE[title](keys)
    else:
        part = {title.partition("]")[0].strip("["): keys}
    values = copy.deepcopy(base)
    for section, more in part.items():
        values[section] = {**values.get(section, {}), **more} if isinstance(more, dict) else more
    return schema, values


def wrong_values(field):
    """Values of another type, and beyond every bound."""
    known = kinds(field)
    if object in known:
        return []
    if any(models(kind) for kind in known):
        known = known | {dict}
    is_text = str in known and not words(field)
    others = [(is_text, "no such word"), (bool in known, True), (known & {int, float}, 3), (known & {list, tuple}, [{}])]
    found = [value for is_right, value in [*others, (dict in known, {"a": {}}), (dict not in known, [[]])] if not is_right]
    return found + beyond_bounds(field)


def beyond_bounds(field):
    """Numbers just outside of what a key allows, and numbers that are none."""
    found = [float("nan")]
    for kind, metadata in of_field(field):
        for bound in metadata if kind in (int, float) else ():
            if isinstance(bound, Gt | Ge | Lt | Le):
                limit = getattr(bound, type(bound).__name__.lower())
                found.append(limit - 1 if isinstance(bound, Gt | Ge) else limit + 1)
        if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
            found.append([1])
    return found


@contextmanager
def said_of(key):
    """Adds the key to what goes wrong: a test goes through all of them."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"at {key}")
        raise


def check_words(error, *needed):
    text = str(error)
    assert all(word in text for word in needed), text
    shown = [phrase for phrase in THEIRS if phrase in text.lower()]
    assert not shown, (shown, text)
    assert "ValidationError" not in "".join(traceback.format_exception(error)), "pydantic's error stands above ours"


def test_wrong_values_are_errors_in_our_words():
    for title, key in KEYS:
        section = SECTIONS[title][0]
        for value in wrong_values(section.model_fields[key]):
            schema, values = whole(title, {key: value})
            with said_of(f"{title}.{key} = {value!r}"), pytest.raises(ConfigError) as error:
                schema.checked(values, "file.toml")
            check_words(error.value, "file.toml: ", key)
            with said_of(f"{title}.{key} = {value!r}"), pytest.raises(ConfigError) as error:
                section(**{key: value})
            check_words(error.value, key)


def test_every_key_gets_some_wrong_values():
    counts = {pair: len(wrong_values(SECTIONS[pair[0]][0].model_fields[pair[1]])) for pair in KEYS}
    assert min(counts.values()) >= 3 and len(counts) >= 150, counts


def test_misspelled_keys_are_recognised():
    """With one letter less; short keys have too little in common with anything."""
    for title, key in KEYS:
        schema, values = whole(title, {key[:-1] + "qz": 1})
        with said_of(f"{title}.{key}"), pytest.raises(ConfigError) as error:
            schema.checked(values, "file.toml")
        check_words(error.value, f"{key[:-1]}qz: unknown key")
        if len(key) > 4:
            assert "did you mean" in str(error.value)


@pytest.mark.parametrize("command", FILES)
def test_sections_of_the_wrong_kind(command):
    schema, base = FILES[command]
    for section in schema.model_fields:
        for value in (3, "x", [1], True):
            with pytest.raises(ConfigError) as error:
                schema.checked({**base, section: value}, "file.toml")
            check_words(error.value, section)
    for nothing in (3, [], "x"):
        with pytest.raises(ConfigError) as error:
            schema.checked(nothing, "file.toml")
        check_words(error.value, "file.toml: ")
    missing = "data.train: missing" if command == "tune" else "output: missing; add it"
    with pytest.raises(ConfigError, match=missing):
        schema.checked({}, "file.toml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlpot.FitConfig(isolated_atom_energies={"Cu": True}), "= {'Cu': True}: must be a table of values, each a number"),
        (lambda: mlpot.FitConfig(isolated_atom_energies={"Cu": "-1"}), "= {'Cu': '-1'}: must be a table of values, each a number"),
        (lambda: FitFile.checked({"data": {"train": 3}, "output": FitOutput("m.h5")}), "data.train = 3: must be text or a list"),
        (lambda: mlpot.FitConfig(seed="3"), "FitConfig: seed = '3': must be an integer of at least 0"),
        (lambda: mlpot.FitConfig(energy_noise=1e200), "= 1e+200: must be a positive number (eV/atom), between 1e-30 and"),
        (lambda: mlpot.FitConfig(force_noise={"Si": 1e-99}), "{'Si': 1e-99}: must be"),
        (lambda: mlpot.FitConfig(preset="balancd"), 'must be "fast", "balanced" or "accurate"; did you mean "balanced"?'),
        (lambda: Rules(threshold="adaptiv"), 'must be "adaptive" or a positive number (eV/A); did you mean "adaptive"?'),
        (lambda: Rules(soft_fraction=2), "must be a number greater than 0 and less than 1"),
        (lambda: Rules(0.2, threshold=0.3), "Rules: two values for ['threshold']; name the keys"),
        (lambda: LabellingPlan("a.B", trys=3), "LabellingPlan: trys: unknown key; did you mean 'tries'?"),
        (lambda: setattr(LabellingPlan(), "tries", 3), "LabellingPlan.tries: settings cannot be changed in place; use"),
        (lambda: delattr(LabellingPlan(), "tries"), "settings cannot be deleted"),
        (lambda: LabellingPlan().changed(tries=0), "LabellingPlan: tries = 0: must be a positive integer"),
        (lambda: LabellingPlan.model_validate({"tries": "x"}), "tries = 'x': must be a positive integer"),
        (lambda: LabellingPlan.model_validate_json('{"tries": 0}'), "LabellingPlan: tries = 0: must be a positive integer"),
        (lambda: LearningSettings(deadline="soon"), "deadline = 'soon': must be \"auto\", or a duration such as"),
    ],
)
def test_python_gets_the_same_words(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    check_words(error.value, message)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "x", "must be an integer"),
        (int, 1.5, "must be an integer"),
        (float, [], "must be a number"),
        (Annotated[float, AllowInfNan(False)], float("nan"), "must be a finite number"),
        (bool, "x", "must be true or false"),
        (str, 3, "must be text"),
        (list[int], 3, "must be a list"),
        (dict[str, int], 3, "must be a table"),
        (FitOutput, 3, "must be a table"),
        (Literal["a", "b"], "c", "must be 'a' or 'b'"),
        (Annotated[int, Field(gt=3)], 3, "must be greater than 3"),
        (Annotated[int, Field(ge=3)], 2, "must be at least 3"),
        (Annotated[int, Field(lt=3)], 3, "must be less than 3"),
        (Annotated[int, Field(le=3)], 4, "must be at most 3"),
        (Annotated[list[int], Field(min_length=2)], [1], "must have at least 2 entries"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must have at most 1 entries"),
        (complex, "x", "is not possible here"),
    ],
)
def test_values_of_headers_get_our_words_too(kind, value, said):
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    assert plainly(error.value.errors()[0]) == said


def test_settings_are_values():
    plan = LabellingPlan("a.B", {"x": 1}, 60.0, 3)
    assert (plan.calculator, plan.parameters, plan.timeout_s, plan.tries) == ("a.B", {"x": 1}, 60.0, 3)
    assert plan.changed(tries=2).tries == 2 and plan.tries == 3
    assert pickle.loads(pickle.dumps(plan)) == plan == LabellingPlan.checked(plan.model_dump())


def test_every_key_has_a_unit_a_sentence_and_a_value_to_show():
    for title, key in KEYS:
        field = SECTIONS[title][0].model_fields[key]
        with said_of(f"{title}.{key}"):
            assert "?" not in units(field), "a number without a unit: use the types of mlpot.keys.quantities"
            assert field.description and field.description[0].isupper() and field.description.endswith(".")
            assert default_text(field) not in ("", "required") or field.examples, "no default: add examples=[...]"
            assert "\n" not in comment(field) and " = " not in (field.description if key == "sets" else "")


ALLOWED_KEYS = {
    "baseline": "a calculator beneath the energy, or beneath a target",
    "max_labels": "of a run; of the cheap level of labels",
    "temperature_K": "of a thermostat; of i-PI's ring polymers",
    "seed": "of dynamics; of sparse points; of a search",
    "steps": "of dynamics; of a search",
    "tune": "in a fit; a section",
    "workers": "of labellers; of a search",
    "replicas": "of walkers; of the final fit of a search",
    "model": "a section; the file that a fit writes; the file that a run starts from",
    "output": "a section that differs between the commands",
    "cutoff": "of a term; of a preset",
    "radial_basis": "of invariants; of the covariants of a target",
    "type": "the name of a term",
    "n_sparse": "per element; per pair of elements",
    "length_scale": "of distances; of features",
    "kernel": "of distances; of features",
    "parameters": "of a calculator; of a baseline; of a descriptor",
    "calculator": "of labels; beneath a fit",
    "n_max": "number of radial functions; highest degree",
    "n_weights": "of a chebyshev term; of an mbtr term",
    "geometry": "of distances; of angles",
    "min": "of distances; of angles",
    "max": "of distances; of angles",
    "sigma": "of distances; of angles",
    "weighting": "of distances; of angles",
    # the same declaration with another default
    "name": "of a walker; of a target",
    "terms": "of the energy; of a target",
    "key": "of TLS; of the labels of a target",
    "l_max": "of a term of the energy; of a target, which needs less",
    "atom_sigma": "likewise",
    "zeta": "any number; of a target a whole one",
    "n_channels": "of a mixing with many options; of a target",
    "cutoff_width": "a type that carries the sentence",
    "min_interval": "a type that carries the sentence",
    "interval": "a type that carries the sentence",
}
"""Names that two classes of settings declare."""
ALLOWED_RECORDS = {
    "Target": "a kind of label, also of a potential",
    "Server": "options of the command line, which have no defaults",
    "GivenLabeller": "a CalculatorLabeller",
    "MixingLoss": "a part of a model while its channels are learned",
    "CalculatorLabeller": "what a worker process is sent, and what labels are identified by",
    "GapRadialBasis": "a part of a model, also of imported ones",
    "LogarithmicBasis": "a part of a model",
    "PairTerm": "a part of a model, also of imported ones",
    "CompiledPairTerm": "a part of a model",
    "KernelFeatures": "a part of a model",
    "Coordinate": "a part of a pair term",
    "PairKernel": "a part of a pair term",
    "TripletKernel": "a part of a model, only of imported ones",
    "ACSF": "a descriptor, which people also make without settings",
    "Chebyshev": "a descriptor, which people also make without settings",
    "Bispectrum": "a descriptor, which people also make without settings",
    "Mbtr": "a descriptor, which people also make without settings",
    "Distribution": "a part of a descriptor",
    "Angles": "a part of a descriptor",
    "Distances": "a part of a descriptor",
    "Zernike": "a descriptor, which people also make without settings",
    "ThreeBodyTerm": "a part of a model, only of imported ones",
    "Parameters": "a fitted model: its terms, baseline and jitter",
    "Source": "a fitted model",
    "SparseGP": "a fitted model",
    "Design": "terms with sparse points, and the baseline below them",
    "Density": "values of a preset, no declarations",
    "Exploration": "of a distillation: steps, workers and seed, as a search has",
    "Preset": "values of a preset, no declarations",
}
"""Data classes with three or more fields that one class of settings declares."""


def all_classes():
    left_out = {"mlpot.__main__", "mlpot.drivers.ipi_pes"} | ({"mlpot.sklearn"} if find_spec("sklearn") is None else set())
    for module in pkgutil.walk_packages(mlpot.__path__, "mlpot."):
        if module.name not in left_out:
            namespace = vars(importlib.import_module(module.name)).values()
            yield from {c for c in namespace if isinstance(c, type) and c.__module__ == module.name}


def test_nothing_is_declared_twice():
    found = list(all_classes())
    declared = defaultdict(set)
    every = [c for c in found if issubclass(c, Settings)]
    for kind in every:
        if kind.__name__ != "WalkerSettings":  # made from StructureSettings and DynamicsPlan
            for key in set(inspect.get_annotations(kind)) & set(kind.model_fields):
                declared[key].add(kind.__name__)
    assert {key: names for key, names in declared.items() if len(names) > 1}.keys() == ALLOWED_KEYS.keys()
    records = [c for c in found if dataclasses.is_dataclass(c)]
    copies = {
        record.__name__
        for record in records
        if any(len({f.name for f in dataclasses.fields(record)} & set(kind.model_fields)) >= 3 for kind in every)
    }
    assert copies == ALLOWED_RECORDS.keys()


def test_documents_are_made_from_the_declarations():
    """If not: python docs/write_keys.py"""
    assert (ROOT / "docs" / "keys.md").read_text(encoding="utf-8") == reference()
    pages = [page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]]
    n_tables = [(text.count("<!-- keys of "), text.count("<!-- end of keys -->")) for text in pages]
    assert all(begun == ended for begun, ended in n_tables) and sum(begun for begun, _ in n_tables) >= 5
    assert [text[:40] for text in pages if filled(text) != text] == []


def test_processes_that_make_labels_do_not_wait_for_pydantic():
    """A tenth of a second for every label; what a worker imports is in `CalculatorLabeller.modules`."""
    modules = "mlpot.workers.worker, mlpot.labellers.calculator, mlpot.labels.inbox"
    script = f"import sys, {modules}; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


PLAIN: Any = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.dates(),
        st.datetimes(), st.times(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.text(min_size=1), PLAIN, max_size=4))
def test_toml_comes_back_as_it_was(values):
    try:
        text = toml_section("[a]", values)
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates: no text
        return
    assert tomllib.loads(text)["a"] == values


def test_toml_of_what_json_does_not_have():
    assert [toml_value(float(x)) for x in ("nan", "inf", "-inf")] == ["nan", "inf", "-inf"]
    assert toml_value([date(2024, 2, 29), time(7, 32), datetime(2024, 2, 29, 7, 32)]) == (
        "[2024-02-29, 07:32:00, 2024-02-29T07:32:00]"
    )
    assert toml_value(("a\x7f", True)) == '["a\\u007f", true]'
    with pytest.raises(ConfigError, match="None: cannot be written as TOML"):
        toml_value({"a": None})
