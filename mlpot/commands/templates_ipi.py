"""A start for i-PI: its input, the configuration of the driver that serves it, and the structure that both read."""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from ..drivers.ipi_input import IpiInput, SocketInput
from ..errors import ConfigError, StructureError
from ..structures import bare_structure, check_atoms
from .templates import template

INPUT, CONFIG, START, TEMPLATE = "input.xml", "learn.toml", "init.xyz", "template.xyz"
"""Files of a start, all in one folder, in which both commands are run."""
VACUUM = 10.0
"""A, on either side of atoms without a cell: i-PI needs one, the model does not use it."""
DIGITS = 6
"""Digits of a socket's name that identify its folder."""
LONGEST_NAME = 40
"""Longest name of a socket, characters: paths of sockets have at most 107."""


def ipi_template(
    atoms: Atoms, name: str, beads: int = 1, temperature: float = 300.0, place: str = ""
) -> dict[str, str]:
    """Consistent contents of `INPUT`, `CONFIG` and `START`: address, atoms and their order, batches.

    Parameters
    ----------
    atoms : ase.Atoms
        Where the simulation starts; positions in A.
    name : str
        Name of the run, from which the address of its socket is made.
    beads : int
        Number of beads; 1 is classical dynamics.
    temperature : float
        K.
    place : str
        Folder of the files, which makes the address unique.

    Raises
    ------
    ConfigError
        If the number of beads or the temperature is not positive.
    StructureError
        If there are no atoms, or they are periodic along a cell vector of length zero.
    """
    if beads < 1 or not 0 < temperature < np.inf:
        raise ConfigError(f"beads = {beads}, temperature = {temperature} K: both must be positive")
    start = in_standard_cell(atoms)
    address = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:LONGEST_NAME] or "mlpot"
    if place:
        address += "_" + hashlib.sha256(place.encode()).hexdigest()[:DIGITS]
    quantum = beads > 1
    text = XML.format(
        address=address,
        beads=beads,
        temperature=temperature,
        timestep=_timestep(1 in start.numbers, quantum),
        thermostat=PILE if quantum else LANGEVIN,
        properties=ESTIMATORS if quantum else "kinetic_md{electronvolt}",
        estimator="given by two estimators; kinetic_cv fluctuates less" if quantum else "classical",
        trajectory=CENTROIDS if quantum else POSITIONS,
        extras="energy_uncertainty,max_force_uncertainty,model_version,n_labelled",
        input=INPUT,
        config=CONFIG,
        start=START,
    )
    known = {("driver", "unix"): address, ("driver", "temperature_K"): temperature if quantum else None}
    species = sorted({int(z) for z in start.numbers})
    return {INPUT: text, CONFIG: template("driver", START, species, known) + "\n", START: _xyz(start)}


def driver_template(told: IpiInput, socket: SocketInput) -> dict[str, str]:
    """The contents of `CONFIG` and `TEMPLATE` for an existing input of i-PI.

    Raises
    ------
    ConfigError, DataError
        If the input cannot be served, or names no structure that can be read.
    """
    atoms, address = told.structure(), socket.where(str(told.file))
    told.check(atoms, socket, committee := "members" if socket.reads_members else "none")
    known: dict[tuple[str, str], Any] = {
        ("driver", "unix"): socket.address if address.path else None,
        ("driver", "port"): None if address.path else address.port,
        ("driver", "committee"): committee,
        ("driver", "temperature_K"): told.temperature if told.beads > 1 else None,
    }
    if not address.path:
        known["driver", "host"] = address.host
    species = sorted({int(z) for z in atoms.numbers})
    return {CONFIG: template("driver", TEMPLATE, species, known) + "\n", TEMPLATE: _xyz(atoms)}


def _xyz(atoms: Atoms) -> str:
    structure = io.StringIO()
    ase.io.write(structure, atoms, format="extxyz")
    return structure.getvalue()


def _timestep(with_hydrogen: bool, quantum: bool) -> float:
    """fs: bonds of hydrogen vibrate within 9 fs, and the stiffest modes of ring polymers are no slower."""
    return (0.25 if quantum else 0.5) if with_hydrogen else 1.0


def in_standard_cell(atoms: Atoms) -> Atoms:
    """The same structure, turned so that its first cell vector is along x and the second in the xy plane, as i-PI's are.

    Labels and constraints are left behind, masses are kept. Cell vectors that are missing are made up where the atoms are not
    periodic; a left-handed cell gets a third vector of the opposite direction, which spans the same lattice. Raises as
    `ipi_template`.
    """
    start = bare_structure(atoms)
    if atoms.has("masses"):
        start.set_masses(atoms.get_masses())
    if not len(start):
        raise StructureError("the structure has no atoms; give the one that the simulation starts from")
    check_atoms(start, "the structure")
    missing = ~start.cell.array.any(axis=1)
    if (missing & start.pbc).any():
        along = ", ".join(np.array(["a", "b", "c"])[missing & start.pbc])
        raise StructureError(
            f"the structure is periodic along {along}, where its cell vector is zero: correct cell or pbc"
        )
    if missing.any():
        start.center(vacuum=VACUUM, axis=np.flatnonzero(missing))
    if start.cell.handedness < 0:
        start.cell[2] *= -1
    start.set_cell(start.cell.standard_form()[0], scale_atoms=True)
    return start


LANGEVIN = """\
<thermostat mode='langevin'>
          <tau units='femtosecond'>100</tau>
        </thermostat>"""
PILE = """\
<!-- PILE: every normal mode of the ring polymers has its own friction; tau is for the centroid. -->
        <thermostat mode='pile_l'>
          <tau units='femtosecond'>100</tau>
        </thermostat>"""
POSITIONS = "<trajectory filename='pos' stride='100' format='ase'> positions{ase} </trajectory>"
CENTROIDS = """<!-- Centroids of the ring polymers; with format='ase' i-PI would write zeros. -->
    <trajectory filename='pos' stride='100' format='xyz' cell_units='angstrom'> x_centroid{angstrom} </trajectory>"""
ESTIMATORS = "kinetic_cv{electronvolt}, kinetic_td{electronvolt}"
XML = """\
<?start i-pi {input}?>
<?start mlpot driver {config}?>
<?instead mlpot driver model.h5 --template {start} --unix {address}?>
<!-- Run the first two side by side in the folder of this file: a simulation that learns. To use an existing model, run the
     third instead of the second. i-PI ignores these lines; they are between question marks because XML comments must not
     contain two dashes. -->
<simulation verbosity='medium'>
  <output prefix='ipi'>
    <!-- conserved may jump a little where the model has learned; between such steps it must not drift, or the time step is
         too long. The kinetic energy is {estimator}. -->
    <properties filename='md' stride='10'>
      [ step, time{{femtosecond}}, conserved{{electronvolt}}, temperature{{kelvin}}, {properties},
        potential{{electronvolt}}, volume{{angstrom3}} ]
    </properties>
    <!-- Sent by the driver with the forces: its expected errors in hartree and hartree/bohr, version of the model, labels. -->
    <trajectory filename='learning' stride='10' extra_type='{extras}'>
      extras
    </trajectory>
    {trajectory}
    <!-- Everything but the model; `i-pi ipi.chk` continues from here. -->
    <checkpoint filename='chk' stride='1000' overwrite='true'/>
  </output>
  <total_steps>10000</total_steps>
  <prng><seed>1</seed></prng>
  <!-- i-PI waits here as long as a label takes. Positions must not be wrapped into the cell: neighbour lists follow the atoms. -->
  <ffsocket name='model' mode='unix' pbc='false'>
    <!-- The same name as in {config}. From another machine: mode='inet', the host as address, and a port. -->
    <address>{address}</address>
    <!-- = nbeads: all beads of a step in one message, to one client, evaluated with one model. -->
    <batch_size>{beads}</batch_size>
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <!-- The same file for i-PI and mlpot, so that the atoms have the same order. It is read by ASE, in angstrom. -->
      <file mode='ase'>{start}</file>
      <velocities mode='thermal' units='kelvin'>{temperature:g}</velocities>
    </initialize>
    <forces>
      <force forcefield='model'/>
    </forces>
    <motion mode='dynamics'>
      <!-- nvt; for npt add a barostat here and a pressure below, as inputs/ipi/npt.xml of mlpot does. -->
      <dynamics mode='nvt'>
        <timestep units='femtosecond'>{timestep:g}</timestep>
        {thermostat}
      </dynamics>
    </motion>
    <ensemble>
      <temperature units='kelvin'>{temperature:g}</temperature>
    </ensemble>
  </system>
</simulation>
"""
