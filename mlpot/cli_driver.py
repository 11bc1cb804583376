"""Commands for i-PI: `mlpot driver` and `mlpot ipi-pes`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms

    from .drivers.ipi_socket import Address
    from .schema import DriverFile

log = logging.getLogger(__name__)
GRACE = 1.5
"""Seconds that a driver which learns may take to leave after a signal."""


def driver(
    file: Annotated[Path, typer.Argument(help="A TOML file, for a driver that learns, or a model file.")],
    resume: Annotated[bool, typer.Option("--resume", help="TOML: continue the run in the folder of [output].")] = False,
    template: Annotated[
        Path | None,
        typer.Option(
            help="Model: the structure i-PI starts from, atoms in its order, with cell and pbc; its last frame counts."
        ),
    ] = None,
    unix: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model: <address> of an i-PI with mode='unix'.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Model: <address> of an i-PI with mode='inet'.")] = None,
    port: Annotated[int | None, typer.Option(help="Model: <port> of an i-PI with mode='inet'.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Model: of UNIX sockets, as in i-pi -S.")] = None,
    patience: Annotated[
        float | None,
        typer.Option(min=0.0, help="Model: seconds to wait for a server, at the beginning and when one is lost; 300."),
    ] = None,
    committee: Annotated[
        Literal["none", "std", "members"] | None,
        typer.Option(
            help="Model: for <ffcommittee> with parse_json: std sends two energies E +- s/sqrt(2), members an ensemble."
        ),
    ] = None,
) -> None:
    """Compute forces for i-PI, or for any server that speaks its protocol, and learn while doing so."""
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mlpot").setLevel(logging.INFO)
    given = {
        "--template": template, "--unix": unix, "--host": host, "--port": port, "--prefix": prefix, "--patience": patience,
        "--committee": committee,
    }  # fmt: skip
    if file.suffix == ".toml":
        if said := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{', '.join(said)}: only with a model file; {file} says it in [structure] and [driver]")
        _learning(file, resume)
        return
    if resume:
        raise ConfigError("--resume: only with a TOML file; a model does not learn")
    if template is None:
        raise ConfigError("--template is missing: the structure that i-PI starts from; or name a TOML file")
    from .drivers.ipi_socket import PREFIX, Address

    address = Address.given(unix, host or "localhost", port, prefix or PREFIX)
    _fixed(file, template, address, patience, committee or "none")


def _fixed(
    model: Path, template: Path, address: Address, patience: float | None, committee: Literal["none", "std", "members"]
) -> None:
    from .drivers.ipi import PATIENCE, IpiClient
    from .drivers.ipi_evaluator import ModelEvaluator
    from .models.files import load_model
    from .processes import leaving_on_signals
    from .structures import read_structures

    atoms = read_structures(template)[-1]
    evaluator = ModelEvaluator(load_model(model), committee)
    evaluator.check(atoms)
    client = IpiClient(address, atoms, evaluator, PATIENCE if patience is None else patience)
    _introduce(atoms)
    with leaving_on_signals():
        client.run()


def _learning(config: Path, resume: bool) -> None:
    from .config import read_config
    from .learning.calculator import BudgetSpent
    from .report.run_report import write_run_report
    from .schema import DriverFile

    settings: DriverFile = read_config(config, DriverFile)
    folder = Path(settings.output.folder)
    try:
        n_labels, n_steps = _learn(config, settings, folder, resume)
    except BudgetSpent:
        log.info("report: %s", write_run_report(folder))
        raise
    if n_steps:
        log.info("%d labels in all; report: %s", n_labels, write_run_report(folder))
    else:
        log.info("nothing was asked for")


def _learn(config: Path, settings: DriverFile, folder: Path, resume: bool) -> tuple[int, int]:
    """Serve until i-PI needs no more; the numbers of labels and of steps, over all restarts."""
    from .config import learning_evaluator
    from .drivers.ipi import IpiClient
    from .drivers.ipi_clients import SharedEvaluator
    from .learning.origin import keep_origin
    from .processes import leaving_on_signals

    told, address = settings.driver, settings.driver.address()
    with leaving_on_signals(GRACE), learning_evaluator(settings, resume) as evaluator:
        handler = logging.FileHandler(folder / "run.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        logging.getLogger("mlpot").addHandler(handler)
        keep_origin(folder, config.read_text(encoding="utf-8"), settings.labeller.calculator)
        template = evaluator.template
        _introduce(template)
        with evaluator.serving():
            if told.clients == 1:
                IpiClient(address, template, evaluator, told.patience_s).run()
            else:
                shared = SharedEvaluator()
                clients = [IpiClient(address, template, shared, told.patience_s) for _ in range(told.clients)]
                shared.serve(evaluator, clients)
        return evaluator.campaign.learner.n_labels, evaluator.pace.step


def _introduce(atoms: Atoms) -> None:
    """How i-PI's atoms are understood, once."""
    from .drivers.ipi import order_of_species

    along = [name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic]
    log.info("%d atoms, i-PI's must have this order: %s", len(atoms), order_of_species(atoms))
    log.info(
        "periodic along %s",
        ", ".join(along) if along else "no cell vector: give the template cell and pbc if it should be",
    )


def ipi_pes() -> None:
    """Print the path of the file for `i-pi-driver-py -m custom -P` and for <ffdirect>."""
    typer.echo(Path(__file__).parent / "drivers" / "ipi_pes.py")
