"""The texts of an export: a configuration for `mlpot fit`, the script that makes the model again, the README."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ase.data import chemical_symbols

from ..errors import counted, required
from ..keys.toml_text import toml_section, toml_value
from ..models.sparse_gp import SparseGP
from ..settings.fit import FitSettings, NoiseSettings
from ..structures import DEFAULT_CONFIG_TYPE
from .export_contents import Contents

REPRODUCE = '''\
"""Make model.h5 of this folder again: the labels one by one, in the order in which the run learned them."""

from pathlib import Path

import numpy as np

import mlpot
from mlpot.config import read_config
from mlpot.settings.files import FitFile
from mlpot.terms.layout import channels_of, environments_of
from mlpot.structures import read_structures

TOLERANCE = 1e-8  # of the largest weight


def sparse_points(file):
    """Sparse points of a model from which the run started."""
    if not Path(file).exists():
        return {}
    start = mlpot.load_model(file, trust_baseline=True)
    return environments_of(start.terms)


model = mlpot.load_model("model.h5", trust_baseline=True)  # fit.toml names the calculator beneath it, if there is one
fit = mlpot.Fit(read_config("fit.toml", FitFile).fit_config(), model.species, channels_of(model.terms))
if Path("start_data.xyz").exists():
    data = read_structures("start_data.xyz")
    fit.update(data, fit.propose(data, sparse_points("start_model.h5")))
for atoms in read_structures("labels.xyz"):
    if atoms.info["learned"]:
        fit.update([atoms], fit.propose([atoms]))

# the scale of the uncertainty is made of errors that the run saw before it learned each label
again = fit.model.calibrated(model.calibration)
difference = np.abs(again.weights - model.weights).max() / np.abs(model.weights).max()
print(f"{len(fit.structures)} structures, {again.n_sparse} sparse points: weights agree within {difference:.1e}")
if not difference < TOLERANCE:
    raise SystemExit("the model is another one: compare environment.json with the versions that are installed here")
'''

HEAD = """\
# A fit from scratch to the labels of a run:
#     mlpot fit fit.toml
# Terms and noises are taken from the run. Sparse points are chosen again, from all labels at once, so the model is as good but
# not the same; reproduce.py makes the same.
"""
CITATIONS = {
    "Gaussian approximation potentials": "Bartók et al., Phys. Rev. Lett. 104, 136403 (2010), doi:10.1103/PhysRevLett.104.136403",
    "SOAP": "Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115",
    "ASE": "Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), doi:10.1088/1361-648X/aa680e",
}  # fmt: skip
CODES = {
    "GFN1-xTB": "Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 13, 1989 (2017), doi:10.1021/acs.jctc.7b00118",
    "GFN2-xTB": "Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176",
    "espresso": "Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017), doi:10.1088/1361-648X/aa8f79",
    "gpaw": "Mortensen et al., J. Chem. Phys. 160, 092503 (2024), doi:10.1063/5.0182685",
}  # fmt: skip
"""Lookup by a word in the settings of labels."""


def fit_toml(model: SparseGP, data: Sequence[str], labels: str, config_types: Iterable[str]) -> str:
    """A configuration of `mlpot fit` with the terms, noises and isolated-atom energies of a model.

    Parameters
    ----------
    model : SparseGP
        Of a run.
    data : sequence of str
        Files of what it started from.
    labels : str
        File of its labels.
    config_types : iterable of str
        Of the labels. The run knew them as "default": they get its noises.
    """
    config = required(model.config, "configuration")
    files = {"train": [*data, labels], "isolated_atom_energies": config.isolated_atom_energies}
    sections = [HEAD, toml_section("[data]", files)]
    if config.baseline is not None:
        sections.insert(1, toml_section("[baseline]", config.baseline.model_dump()))
    elif config.isolated_atom_energies is None:
        found = {chemical_symbols[z]: float(e) for z, e in model.baseline.isolated_atom_energies.items()}
        sections[-1] += f"# none were given; the labels say: isolated_atom_energies = {toml_value(found)}\n"
    sections.append(toml_section("[model]", {"repulsion": config.repulsion}))
    for term in config.terms:
        sections.append(toml_section("[[model.terms]]", term.model_dump(mode="json")))
    values = {name: getattr(config, name) for name in ("energy_noise", "force_noise", "virial_noise", "jitter", "seed")}
    values["adapt"] = list(config.adapt or ())
    sections.append(toml_section("[fit]", values | {"config_type_noise": _noises(config, config_types) or None}))
    sections.append(toml_section("[output]", {"model": "model_from_scratch.h5"}))
    return "\n".join(sections)


def _noises(config: FitSettings, config_types: Iterable[str]) -> dict[str, dict[str, float]]:
    """Noises by config_type, as TOML takes them."""
    known: dict[str, NoiseSettings] = dict(config.config_type_noise)
    if DEFAULT_CONFIG_TYPE in known:
        known |= dict.fromkeys(config_types, known[DEFAULT_CONFIG_TYPE])
    return {name: noise.model_dump(exclude_none=True) for name, noise in known.items()}


def readme(contents: Contents, n_failed: int, sums: Mapping[str, str]) -> str:
    """Description of an export: its contents, its origin, and how to reproduce it."""
    model = contents.model
    parts = [
        f"# {contents.run.absolute().name}\n",
        "Data and model of a simulation that learned its own interatomic potential, by "
        f"mlpot {model.provenance.get('mlpot_version', '')}.\n",
        _counts(contents, n_failed),
        _theory(contents),
        _model(contents),
        REPEAT if contents.n_learned is not None else CANNOT_REPEAT,
        _citations(contents),
        "## Files\n",
        "sha256 sums; `sha256sum -c SHA256SUMS` checks them.\n",
        "\n".join(f"    {value}  {name}" for name, value in sums.items()) + "\n",
    ]
    return "\n".join(parts)


REPEAT = """\
## Make it again

    python reproduce.py         # the same weights: labels one by one, in the order of the file
    mlpot fit fit.toml          # a fit from scratch

The run learned label by label, and sparse points were added with each: which ones depends on the order. `labels.xyz` keeps it,
with every digit of positions and results, so `reproduce.py` gives the weights of `model.h5` again (to the last bit on the same
machine and versions, see `environment.json`), and with them energies, forces and raw uncertainties.

A fit from scratch has the same labels, terms, noises and isolated-atom energies. It chooses sparse points from all labels at
once, and calibrates its uncertainty on errors of structures left out, where the run used the errors that it saw before it
learned each label. Its predictions agree within the errors of both; its weights are others.
"""
CANNOT_REPEAT = """\
## Make it again

    mlpot fit fit.toml          # a fit from scratch

The model was not made of exactly these labels in a known order (the run is of an older version, started from data that it did not
keep, or labels were added by hand), so there is no script that gives the same weights. A fit from scratch has the same terms
and noises.
"""


def _counts(contents: Contents, n_failed: int) -> str:
    labels = contents.labels
    reasons = sorted({label.reason for label in labels})
    counts = Counter((label.walker, label.reason) for label in labels)
    lines = ["| walker | atoms | " + " | ".join([*reasons, "all"]) + " |", "|---" * (len(reasons) + 3) + "|"]
    for walker in dict.fromkeys(label.walker for label in labels):
        own = [label for label in labels if label.walker == walker]
        formulas = ", ".join(dict.fromkeys(label.row.formula for label in own))
        cells = [str(counts[walker, reason]) for reason in reasons]
        lines.append(f"| {walker} | {formulas} | " + " | ".join([*cells, str(len(own))]) + " |")
    learned = sum(contents.is_learned(k) for k in range(len(labels)))
    more = [
        f"{counted(len(labels), 'label')} in `labels.xyz`, {learned} of them learned (`learned=T`), in the order of the model."
    ]
    if contents.data:
        more.append(f"`start_data.xyz` has the data that the run started from ({counted(len(contents.data), 'structure')}).")
    if n_failed:
        more.append(f"{counted(n_failed, 'label')} failed for good; not here.")
    return "## Data\n\n" + "\n".join(more) + "\n\n" + "\n".join(lines) + "\n\n" + COLUMNS


COLUMNS = """\
Extended XYZ with ASE's names: energy / eV (the one that the forces are the derivative of), forces / (eV/Å), stress / (eV/Å³).
`config_type` is the walker, `reason` why the label was asked for, `step` where, `key` its name in labels.db of the run,
`label_seconds` what it took, `settings` calculator and parameters, `force_error` the RMS error in eV/Å of the model before it
learned it, `expected_error` what the model expected of its least certain force.
"""


def _theory(contents: Contents) -> str:
    settings = Counter(json.dumps(label.row.data.get("settings"), sort_keys=True) for label in contents.labels)
    lines = [f"    {text}    # {counted(number, 'label')}" for text, number in settings.most_common()]
    return (
        "## Level of theory\n\nCalculator and parameters; versions are in `environment.json`.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _model(contents: Contents) -> str:
    model = contents.model
    kinds = ", ".join(f"{term.label} term with {term.n_sparse} sparse points" for term in model.terms)
    energies = ", ".join(f"{chemical_symbols[z]} {e!r} eV" for z, e in model.baseline.isolated_atom_energies.items())
    config = required(model.config, "configuration")
    how = "fitted" if config.isolated_atom_energies is None else "given"
    beneath = "" if config.baseline is None else f", as a difference from {config.baseline.calculator} {config.baseline.parameters}"
    return (
        f"## Model\n\n`model.h5`: {kinds}{beneath}; reaches {model.cutoff} Å. Isolated atoms ({how}): {energies}. "
        f"Standard deviations are multiplied by {model.calibration.described()}.\n\n"
        '    import mlpot\n    atoms.calc = mlpot.MlpotCalculator("model.h5")\n'
    )


def _citations(contents: Contents) -> str:
    used = json.dumps([label.row.data.get("settings") for label in contents.labels]).lower()
    known = {**CITATIONS, **{word: text for word, text in CODES.items() if word.lower() in used}}
    lines = [f"- {name}: {text}" for name, text in known.items()]
    return "## To cite\n\nBesides mlpot and the electronic-structure code:\n\n" + "\n".join(lines) + "\n"
