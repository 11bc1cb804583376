"""Complete, commented configurations for a structure, every key with its meaning: `mlpot template`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ase.data import atomic_numbers, chemical_symbols

from ..labellers.calculator import DEFAULT_CALCULATOR
from ..report.toml_text import toml_value
from ..schema import DriverFile, FitFile, LearnFile
from ..schema_data import DataSetSettings
from ..settings.fit import Settings

TemplateKind = Literal["fit", "learn", "driver"]


def template(
    kind: TemplateKind, file: str, species: list[int], given: Mapping[tuple[str, str], Any] | None = None
) -> str:
    """A complete configuration for a structure file, every key with its meaning; `given` has values by section and key."""
    symbols = "-".join(chemical_symbols[z] for z in species).lower()
    energies = ", ".join(f"{chemical_symbols[z]} = 0.0" for z in species)
    contents = CONTENTS[kind]
    values = {**contents.given, **labeller_for(species), **(given or {})}
    lines = [f"# mlpot {kind} THIS_FILE", ""]
    for section, field in sorted(contents.schema.model_fields.items(), key=lambda item: ORDER.index(item[0])):
        if section in contents.without:
            continue
        lines.append(f"[{section}]")
        for key, entry in field.annotation.model_fields.items():
            if key in ("terms", "config_type_noise") or (section, key) in contents.without:
                continue
            if key == "sets":
                lines += _sets(entry.description)
                continue
            value = values.get((section, key), entry.default)
            text = {"isolated_atom_energies": f"{{ {energies} }}"}.get(key) if value is None else toml_value(value)
            text = text.replace("FILE", file).replace("NAME", symbols) if text else EXAMPLES[key]
            lines.append(_line("# " if value is None else "", key, text, entry.description))
        lines.append("")
    return "\n".join(lines + contents.closing.splitlines())


def _line(mark: str, key: str, text: str, description: str) -> str:
    return f"{mark}{key} = {text}".ljust(44) + f"  # {description}"


def _sets(description: str) -> list[str]:
    """[[data.sets]], as comments at the end of [data]."""
    keys = DataSetSettings.model_fields.items()
    return [f"# {description}:", "# [[data.sets]]", *(_line("# ", k, EXAMPLES[k], e.description) for k, e in keys)]


def labeller_for(species: list[int]) -> dict[tuple[str, str], Any]:
    """A calculator that has these elements: EMT for its metals alone, GFN1-xTB up to radon, else a name to be replaced."""
    where = ("labeller", "calculator"), ("labeller", "parameters")
    if set(species) <= EMT_METALS:
        return dict(zip(where, ("ase.calculators.emt.EMT", {}), strict=True))
    if max(species) <= LAST_OF_XTB:
        return dict(zip(where, (DEFAULT_CALCULATOR, {"method": "GFN1-xTB", "verbosity": 0}), strict=True))
    return dict(zip(where, (YOUR_CODE, {}), strict=True))


EMT_METALS = {atomic_numbers[symbol] for symbol in ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")}
"""Elements that ASE's EMT was made for; its H, C, N and O are for tests of programs."""
LAST_OF_XTB = 86
YOUR_CODE = "your_package.YourCalculator"
"""In place of a calculator that nobody can guess."""
FIT_GIVEN = {("data", "train"): "FILE", ("model", "preset"): "balanced", ("output", "model"): "NAME.h5"}
LEARN_GIVEN = {
    ("structure", "file"): "FILE",
    ("model", "preset"): "balanced",
    ("output", "folder"): "runs/NAME",
}
WALKERS = """\
# Several simulations may share the model; what is not said here is that of [structure] and [dynamics]:
# [[walkers]]
# name = "cold"
# temperature_K = 300.0
#
# [[walkers]]
# name = "hot"
# temperature_K = [300.0, 1200.0]
# replicas = 2
"""
ORDER = ("data", "structure", "dynamics", "driver", "walkers", "labeller", "learning", "model", "fit", "output")


@dataclass(frozen=True)
class Contents:
    """What a kind of template is made of: sections of a schema, values that are not its defaults, sections and keys to leave
    out, and text for its end."""

    schema: type[Settings]
    given: Mapping[tuple[str, str], Any]
    without: frozenset[str | tuple[str, str]] = frozenset()
    closing: str = ""


CONTENTS: dict[TemplateKind, Contents] = {
    "fit": Contents(FitFile, FIT_GIVEN),
    "learn": Contents(LearnFile, LEARN_GIVEN, frozenset({"walkers", ("data", "test")}), WALKERS),
    "driver": Contents(
        DriverFile,
        LEARN_GIVEN,
        frozenset({
            ("structure", "repeat"), ("data", "test"), ("learning", "deadline"), ("learning", "deadline_margin_s"),
        }),
    ),
}
EXAMPLES = {
    "test": '"test.xyz"', "cutoff": "5.0", "energy_noise": "0.002", "force_noise": "0.05", "virial_noise": "0.02",
    "energy_key": '"REF_energy"', "forces_key": '"REF_forces"', "stress_key": '"REF_stress"', "virial_key": '"REF_virial"',
    "files": '"surface.xyz"', "config_type": '"surface"', "adapt": '["force_noise"]',
    "scheduler": '"tcp://node1:8786"', "tls": '{ ca = "ca.pem", certificate = "client.pem", key = "client-key.pem" }',
    "slurm": '{ queue = "normal", cores = 16, memory = "32GB", walltime = "04:00:00" }',
    "pbs": '{ queue = "normal", tasks = 16, memory = "32GB", walltime = "04:00:00" }',
    "sge": '{ memory = "32GB", tasks = 16, job_extra_directives = ["-pe mpi 16"] }',
    "lsf": '{ queue = "normal", tasks = 16, memory = "32GB", walltime = "04:00" }',
    "deadline": '"auto"',
    "soft_fraction": "0.6", "max_wall_hours": "24.0", "max_cpu_hours": "240.0",
    "converged_after": "5000", "target_error": "0.1", "timeout_s": "3600.0", "max_labels": "60",
    "model": '"model.h5"', "report": '"report.html"', "preset": '"balanced"',
    "unix": '"mlpot"', "port": "31415", "temperature_K": "300.0",
}  # fmt: skip
