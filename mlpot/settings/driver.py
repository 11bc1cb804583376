"""Section [driver]: how to reach i-PI, and what to send to it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..keys.base import Settings
from ..keys.quantities import PURE, Count, Kelvin, SecondsOrNone

PREFIX = "/tmp/ipi_"
"""i-PI's default prefix of UNIX sockets."""
LOCALHOST = "localhost"
PATIENCE = 300.0
"""Seconds that a client waits for a server by default."""


class DriverSettings(Settings):
    """Connection to i-PI, and the data sent to it."""

    unix: str | None = Field(
        None, description="Name of a UNIX socket: the <address> in i-PI's input with mode='unix'.", examples=["mlpot"]
    )
    prefix: str = Field(PREFIX, description="Prefix of UNIX sockets, as of i-pi -S.")
    host: str = Field(LOCALHOST, description="Host of a TCP socket: the <address> in i-PI's input with mode='inet'.")
    port: Annotated[int, PURE] | None = Field(
        None, description="Port of a TCP socket: the <port> in i-PI's input with mode='inet'.", examples=[31415]
    )
    patience_s: SecondsOrNone = Field(
        PATIENCE, description="Time to wait for i-PI, at the start and after the connection was lost."
    )
    committee: Literal["none", "std", "members"] = Field(
        "none",
        description="Potentials sent for <ffcommittee>: none, two at plus and minus the standard deviation, or an ensemble of eight.",
    )
    clients: Count = Field(1, description="Connections to i-PI; one is best, with <batch_size> = nbeads.")
    temperature_K: Kelvin | None = Field(
        None,
        description="Temperature of the ring polymers, which i-PI does not send; for kinetic energies in the report.",
        examples=[300.0],
    )

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_address(self.unix, self.port)
        if self.unix is not None and self.host != LOCALHOST:
            raise ValueError(f"host = {self.host!r} is for port, but unix = {self.unix!r} is given; remove one of them")
        if self.port is not None and self.prefix != PREFIX:
            raise ValueError(f"prefix = {self.prefix!r} is for unix, but port = {self.port} is given; remove one of them")
        return self


def check_address(unix: str | None, port: int | None) -> None:
    """ValueError unless exactly one of a UNIX socket and a TCP port is given and possible."""
    if (unix is None) == (port is None):
        raise ValueError("give either unix or port (and host), the address in i-PI's <ffsocket>")
    if unix == "":
        raise ValueError("unix: the name is empty; give the <address> in i-PI's input")
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"port = {port}: must be between 1 and 65535")
