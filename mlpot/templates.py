"""Complete, commented configurations for a structure, every key with its meaning: `mlpot template`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ase.data import chemical_symbols

from .models.settings import Settings
from .report.toml_text import toml_value
from .schema import DriverFile, FitFile, LearnFile

TemplateKind = Literal["fit", "learn", "driver"]


def template(
    kind: TemplateKind, file: str, species: list[int], given: Mapping[tuple[str, str], Any] | None = None
) -> str:
    """A complete configuration for a structure file, every key with its meaning; `given` has values by section and key."""
    symbols = "-".join(chemical_symbols[z] for z in species).lower()
    energies = ", ".join(f"{chemical_symbols[z]} = 0.0" for z in species)
    contents = CONTENTS[kind]
    lines = [f"# mlpot {kind} THIS_FILE", ""]
    for section, field in sorted(contents.schema.model_fields.items(), key=lambda item: ORDER.index(item[0])):
        if section in contents.without:
            continue
        lines.append(f"[{section}]")
        for key, entry in field.annotation.model_fields.items():
            if key in ("terms", "config_type_noise") or (section, key) in contents.without:
                continue
            value = (dict(contents.given) | dict(given or {})).get((section, key), entry.default)
            text = {"isolated_atom_energies": f"{{ {energies} }}"}.get(key) if value is None else toml_value(value)
            text = text.replace("FILE", file).replace("NAME", symbols) if text else EXAMPLES[key]
            mark = "# " if value is None else ""
            lines.append(f"{mark}{key} = {text}".ljust(44) + f"  # {entry.description}")
        lines.append("")
    return "\n".join(lines + contents.closing.splitlines())


FIT_GIVEN = {("data", "train"): "FILE", ("model", "preset"): "balanced", ("output", "model"): "NAME.h5"}
LEARN_GIVEN = {
    ("structure", "file"): "FILE",
    ("model", "preset"): "balanced",
    ("labeller", "parameters"): {"method": "GFN1-xTB", "verbosity": 0},
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
    "learn": Contents(LearnFile, LEARN_GIVEN, frozenset({"walkers"}), WALKERS),
    "driver": Contents(
        DriverFile,
        LEARN_GIVEN,
        frozenset({("structure", "repeat"), ("learning", "deadline"), ("learning", "deadline_margin_s")}),
    ),
}
EXAMPLES = {
    "test": '"test.xyz"', "cutoff": "5.0", "energy_noise": "0.002", "force_noise": "0.05", "virial_noise": "0.02",
    "energy_key": '"REF_energy"', "forces_key": '"REF_forces"', "stress_key": '"REF_stress"', "virial_key": '"REF_virial"',
    "adapt": '["force_noise"]',
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
