"""Commands for i-PI: `mlpot driver` and `mlpot ipi-pes`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import ConfigError
from .console import TrustBaseline

if TYPE_CHECKING:
    from ase import Atoms

    from ..drivers.ipi_evaluator import Committee
    from ..drivers.ipi_socket import Address
    from ..settings.files import DriverFile

log = logging.getLogger(__name__)
GRACE = 1.5
"""Seconds that a driver which learns may take to leave after a signal."""

InputFile = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="i-PI's input: address and template are read from it, contradictions are reported. TOML: only the latter.",
    ),
]
Forcefield = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --input: the ffsocket to serve if there are several.")
]
TemplateFile = Annotated[
    Path | None,
    typer.Option(
        help="Model: the structure that i-PI starts from, with its order of atoms, cell and pbc; the last frame is used."
    ),
]
Patience = Annotated[
    float | None,
    typer.Option(min=0.0, help="Model: seconds to wait for a server, at the start and after the connection was lost; default 300."),
]
CommitteeKind = Annotated[
    Literal["none", "std", "members"] | None,
    typer.Option(
        help="Model: for an ffcommittee with parse_json; std sends two energies E +- s/sqrt(2), members an ensemble."
    ),
]


def driver(
    file: Annotated[Path, typer.Argument(help="A TOML file for a driver that learns, or a model file.")],
    resume: Annotated[bool, typer.Option("--resume", help="TOML: continue the run in the folder of [output].")] = False,
    ipi_input: InputFile = None,
    forcefield: Forcefield = None,
    template: TemplateFile = None,
    unix: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model: the <address> in i-PI's input with mode='unix'.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Model: the <address> in i-PI's input with mode='inet'.")] = None,
    port: Annotated[int | None, typer.Option(help="Model: the <port> in i-PI's input with mode='inet'.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Model: the prefix of UNIX sockets, as of i-pi -S.")] = None,
    patience: Patience = None,
    committee: CommitteeKind = None,
    once: Annotated[bool, typer.Option("--once", help="End with the first server, however that ends.")] = False,
    trust_baseline: TrustBaseline = False,
) -> None:
    """Compute forces for i-PI or any server that speaks its protocol; with a TOML file, learn while doing so."""
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mlpot").setLevel(logging.INFO)
    given = {
        "--template": template, "--unix": unix, "--host": host, "--port": port, "--prefix": prefix, "--patience": patience,
        "--committee": committee, "--trust-baseline": trust_baseline or None,
    }  # fmt: skip
    if forcefield is not None and ipi_input is None:
        raise ConfigError("--forcefield names an <ffsocket> in the file given by --input; give both")
    if file.suffix == ".toml":
        if said := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"{', '.join(said)}: only with a model file; set them in [structure] and [driver] of {file}")
        _learning(file, Run(ipi_input, forcefield, once, resume))
        return
    if resume:
        raise ConfigError("--resume is only for a TOML file: a fixed model does not learn")
    _fixed(
        file,
        Run(ipi_input, forcefield, once, trust_baseline=trust_baseline),
        Server(template, unix, host, port, prefix, patience),
        committee or "none",
    )


@dataclass(frozen=True)
class Run:
    """Options of both kinds of driver."""

    ipi_input: Path | None
    forcefield: str | None
    once: bool
    resume: bool = False
    trust_baseline: bool = False


@dataclass(frozen=True)
class Server:
    """Options for the address of i-PI and the structure it sends; None where they were not given."""

    template: Path | None
    unix: str | None
    host: str | None
    port: int | None
    prefix: str | None
    patience: float | None

    def address(self) -> Address:
        """The address in the options."""
        from ..drivers.ipi_socket import Address
        from ..settings.driver import LOCALHOST, PREFIX

        return Address.given(self.unix, self.host or LOCALHOST, self.port, self.prefix or PREFIX)

    def found(self, run: Run, committee: Committee) -> tuple[Address, Atoms]:
        """Address and template, from i-PI's input where options are missing; ConfigError if they contradict it."""
        from ..drivers.ipi_input import read_ipi_input
        from ..settings.driver import PREFIX
        from ..structures import read_structures

        atoms = None if self.template is None else read_structures(self.template)[-1]
        if run.ipi_input is None:
            if atoms is None:
                raise ConfigError(
                    "--template is missing: give the structure that i-PI starts from, or i-PI's input with --input"
                )
            return self.address(), atoms
        told = read_ipi_input(run.ipi_input)
        socket = told.socket(run.forcefield)
        atoms = told.structure() if atoms is None else atoms
        told.check(atoms, socket, committee)
        for hint in told.hints(socket, committee):
            log.warning("%s", hint)
        if self.unix is None and self.port is None and self.host is None:
            return socket.where(str(told.file), self.prefix or PREFIX), atoms
        return self.address(), atoms


def _fixed(model: Path, run: Run, server: Server, committee: Committee) -> None:
    from ..drivers.ipi import IpiClient
    from ..drivers.ipi_evaluator import ModelEvaluator
    from ..models.files import load_model
    from ..processes import leaving_on_signals
    from ..settings.driver import PATIENCE

    address, atoms = server.found(run, committee)
    evaluator = ModelEvaluator(load_model(model, run.trust_baseline), committee)
    evaluator.check(atoms)
    client = IpiClient(address, atoms, evaluator, PATIENCE if server.patience is None else server.patience, run.once)
    _introduce(atoms)
    with leaving_on_signals():
        client.run()


def _learning(config: Path, run: Run) -> None:
    from ..config import read_config
    from ..learning.calculator import BudgetSpent
    from ..report.run_report import write_run_report
    from ..settings.files import DriverFile

    settings: DriverFile = read_config(config, DriverFile)
    if run.ipi_input is not None:
        check_driver(config, settings, run.ipi_input, run.forcefield)
    folder = Path(settings.output.folder)
    try:
        labels, n_steps = _learn(config, settings, folder, run)
    except BudgetSpent:
        log.info("report: %s", write_run_report(folder))
        raise
    if n_steps:
        log.info("%s in all; report: %s", labels, write_run_report(folder))
    else:
        log.info("no forces were requested")


def check_driver(config: Path, settings: DriverFile, ipi_input: Path, forcefield: str | None) -> None:
    """ConfigError if a configuration and i-PI's input contradict each other; a warning for settings that are probably wrong."""
    from ..drivers.ipi_input import read_ipi_input
    from ..drivers.ipi_socket import Address
    from ..structures import read_structures

    told, own = read_ipi_input(ipi_input), settings.driver
    socket = told.socket(forcefield)
    where, address = socket.where(str(ipi_input), own.prefix), Address.of(own)
    if where != address:
        raise ConfigError(f"{config}: [driver] connects to {address}, but {ipi_input} listens at {where}; correct one of them")
    told.check(read_structures(settings.structure.file)[-1], socket, own.committee)
    for hint in told.hints(socket, own.committee):
        log.warning("%s", hint)
    if told.beads > 1 and (own.temperature_K is None or abs(own.temperature_K - (told.temperature or 0)) > 0.01):
        log.warning(
            "%s: temperature_K = %s in [driver], but %s has %s K; kinetic energies in the report need the same",
            config, own.temperature_K, ipi_input, told.temperature,
        )  # fmt: skip


def _learn(config: Path, settings: DriverFile, folder: Path, run: Run) -> tuple[str, int]:
    """Serve until i-PI ends; the numbers of labels and steps over all restarts."""
    from ..config import learning_evaluator
    from ..drivers.ipi import IpiClient
    from ..drivers.ipi_clients import SharedEvaluator
    from ..drivers.ipi_socket import Address
    from ..learning.log_format import RUN_LOG
    from ..learning.run_environment import keep_origin
    from ..processes import leaving_on_signals
    from ..report.live import LogFile

    told, address = settings.driver, Address.of(settings.driver)
    with leaving_on_signals(GRACE), learning_evaluator(settings, run.resume) as evaluator:
        handler = LogFile(folder / RUN_LOG)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        logging.getLogger("mlpot").addHandler(handler)
        keep_origin(folder, config.read_text(encoding="utf-8"), settings.labelling.calculator)
        template = evaluator.template
        _introduce(template)
        try:
            with evaluator.serving():
                if told.clients == 1:
                    IpiClient(address, template, evaluator, told.patience_s, run.once).run()
                else:
                    shared = SharedEvaluator()
                    clients = [
                        IpiClient(address, template, shared, told.patience_s, run.once) for _ in range(told.clients)
                    ]
                    shared.serve(evaluator, clients)
        finally:
            if evaluator.verdict is not None and evaluator.counters.step:
                log.info("%s", evaluator.verdict.text)
        learner = evaluator.campaign.learner
        if learner and learner.fit.beneath is not None:
            log.info("beneath the model: %s", learner.fit.beneath.cost)
        return evaluator.campaign.labels_in_words, evaluator.counters.step


def _introduce(atoms: Atoms) -> None:
    """Log once how the atoms of i-PI are interpreted."""
    from ..drivers.ipi import order_of_species

    along = [name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic]
    log.info("%d atoms; i-PI must send them in this order: %s", len(atoms), order_of_species(atoms))
    log.info(
        "periodic along %s",
        ", ".join(along) if along else "no cell vector: give the template cell and pbc if it should be",
    )


def ipi_pes() -> None:
    """Print the path of the file for `i-pi-driver-py -m custom -P` and for i-PI's ffdirect."""
    typer.echo(Path(__file__).parents[1] / "drivers" / "ipi_pes.py")
