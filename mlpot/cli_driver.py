"""Commands for i-PI: `mlpot driver` and `mlpot ipi-pes`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import ConfigError

if TYPE_CHECKING:
    from .drivers.ipi_socket import Address

log = logging.getLogger(__name__)


def driver(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    template: Annotated[
        Path,
        typer.Option(
            help="The structure i-PI starts from, atoms in its order, with cell and pbc; its last frame counts."
        ),
    ],
    unix: Annotated[str | None, typer.Option(metavar="NAME", help="<address> of an i-PI with mode='unix'.")] = None,
    host: Annotated[str, typer.Option(help="<address> of an i-PI with mode='inet'.")] = "localhost",
    port: Annotated[int | None, typer.Option(help="<port> of an i-PI with mode='inet'.")] = None,
    prefix: Annotated[str, typer.Option(help="Of UNIX sockets, as in i-pi -S.")] = "/tmp/ipi_",
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a server, at the beginning and when one is lost.")
    ] = 300.0,
    committee: Annotated[
        Literal["none", "std", "members"],
        typer.Option(
            help="For <ffcommittee> with parse_json: std sends two energies E +- s/sqrt(2), members an ensemble with forces."
        ),
    ] = "none",
) -> None:
    """Compute forces for i-PI, or for any server that speaks its protocol."""
    from .drivers.ipi import IpiClient, order_of_species
    from .drivers.ipi_evaluator import ModelEvaluator
    from .models.files import load_model
    from .processes import leaving_on_signals
    from .structures import read_structures

    address = _address(unix, prefix, host, port)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mlpot").setLevel(logging.INFO)
    atoms = read_structures(template)[-1]
    evaluator = ModelEvaluator(load_model(model), committee)
    evaluator.check(atoms)
    client = IpiClient(address, atoms, evaluator, patience)
    along = [name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic]
    log.info("%d atoms, i-PI's must have this order: %s", len(atoms), order_of_species(atoms))
    log.info(
        "periodic along %s",
        ", ".join(along) if along else "no cell vector: give the template cell and pbc if it should be",
    )
    with leaving_on_signals():
        client.run()


def _address(unix: str | None, prefix: str, host: str, port: int | None) -> Address:
    from .drivers.ipi_socket import Address

    if (unix is None) == (port is None):
        raise ConfigError("give either --unix NAME or --port (and --host): one address, that of i-PI's <ffsocket>")
    return Address.tcp(host, port) if unix is None else Address.unix(unix, prefix)


def ipi_pes() -> None:
    """Print the path of the file for `i-pi-driver-py -m custom -P` and for <ffdirect>."""
    typer.echo(Path(__file__).parent / "drivers" / "ipi_pes.py")
