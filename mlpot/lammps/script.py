"""The user's LAMMPS input, command by command: what it runs, and what is left out when it goes on from a restart file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ase.data import atomic_numbers

from ..errors import ConfigError, quoted

RUNS = ("run", "minimize")
"""Commands that move atoms and that are followed."""
NOT_FOLLOWED = (
    "jump", "next", "label", "clear", "partition", "rerun", "neb", "neb/spin", "prd", "tad", "hyper", "temper", "temper/npt",
    "temper/grem", "message", "quit",
)  # fmt: skip
BOX_MAKERS = ("read_data", "read_restart", "create_box")
"""Replaced by the restart file when a run is resumed."""
DONE_BEFORE = (
    "create_atoms", "delete_atoms", "displace_atoms", "replicate", "change_box", "velocity", "set", "reset_atoms", "reset_timestep",
    "create_bonds", "delete_bonds", "write_data", "write_dump", "write_restart", *RUNS,
)  # fmt: skip
"""The effects are in the restart file, or on the disk."""
BAROSTATS = ("npt", "nph", "press/berendsen", "press/langevin", "box/relax", "npt/sphere", "npt/asphere")
DEEPEST = 8
"""Files that include each other."""


@dataclass(frozen=True)
class Command:
    """A command of an input, on one line.

    Parameters
    ----------
    text : str
        Without comment, continued lines joined.
    place : str
        File and line, for messages.
    """

    text: str
    place: str

    @property
    def words(self) -> list[str]:
        """The words of the command."""
        return self.text.split()

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0]


@dataclass(frozen=True)
class Script:
    """An input of LAMMPS whose pair style is mlpot.

    Parameters
    ----------
    commands : tuple of Command
    elements : tuple of str
        Element of each atom type.
    """

    commands: tuple[Command, ...]
    elements: tuple[str, ...]

    @classmethod
    def read(cls, file: str | Path) -> Script:
        """Read an input and the files that it includes.

        Raises
        ------
        ConfigError
            If a file cannot be read, a command cannot be followed, units are not metal, nothing is run, or the pair style is not
            mlpot alone with an element for every type.
        """
        commands = tuple(_commands(Path(file), 0))
        for command in commands:
            if command.name in NOT_FOLLOWED:
                raise ConfigError(f"{command.place}: {command.name}: cannot be followed; write the runs one after another")
            if command.name == "run" and "every" in command.words:
                raise ConfigError(f"{command.place}: run ... every: cannot be followed; use a fix, a dump or several runs")
        if not any(command.name in RUNS for command in commands):
            raise ConfigError(f"{file}: neither run nor minimize occurs; there is nothing to learn from")
        units = [command.words[1:] for command in commands if command.name == "units"]
        if units != [["metal"]]:
            raise ConfigError(f"{file}: units {' '.join(units[-1]) if units else 'lj (the default)'}: write 'units metal' once")
        return cls(commands, _elements(file, commands))

    @property
    def uses_stress(self) -> bool:
        """Whether a fix changes the cell according to the stress."""
        return any(c.name == "fix" and len(c.words) > 3 and c.words[3] in BAROSTATS for c in self.commands)

    @property
    def is_heated(self) -> bool:
        """Whether a thermostat changes the temperature along a run."""
        return any(c.name == "fix" and _ramp(c.words) for c in self.commands)

    def before(self, run: int, restart: str | None) -> list[str]:
        """Commands before the command of index `run`; from a restart file, only those that it does not make superfluous."""
        given = self.commands[:run]
        if restart is None:
            return [command.text for command in given]
        found: list[str] = []
        for command in given:
            if command.name in BOX_MAKERS:
                found += [f"read_restart {restart}"] if f"read_restart {restart}" not in found else []
            elif command.name in DONE_BEFORE or (command.name == "group" and "dynamic" not in command.words):
                continue
            else:
                found.append(f"{command.text} append" if command.name == "log" and "append" not in command.words else command.text)
                if command.name == "dump":
                    found.append(f"dump_modify {command.words[1]} append yes")
        return found

    def next_run(self, start: int) -> int | None:
        """Index of the first command from `start` on that moves atoms; None if there is no other."""
        return next((k for k in range(start, len(self.commands)) if self.commands[k].name in RUNS), None)

    def pair_coeff(self, file: str | Path) -> str:
        """The command that loads a model file."""
        return f"pair_coeff * * {file} {' '.join(self.elements)}"


def _ramp(words: list[str]) -> bool:
    """Whether a fix has two different temperatures."""
    if len(words) > 5 and words[3] in ("langevin", "temp/berendsen", "temp/csvr", "temp/rescale"):
        first = 5 if words[3] == "temp/rescale" else 4
        return words[first] != words[first + 1] and not words[first].startswith("v_")
    return "temp" in words[4:-2] and words[words.index("temp", 4) + 1] != words[words.index("temp", 4) + 2]


def _elements(file: str | Path, commands: tuple[Command, ...]) -> tuple[str, ...]:
    styles = [command for command in commands if command.name == "pair_style"]
    coefficients = [command for command in commands if command.name == "pair_coeff"]
    if len(styles) != 1 or styles[0].words[1:2] != ["mlpot"] or len(coefficients) != 1:
        raise ConfigError(
            f"{file}: a run that learns needs 'pair_style mlpot' and one 'pair_coeff * * model.mlpot El ...', and no other style"
        )
    names = tuple(coefficients[0].words[4:])
    wrong = [name for name in names if name not in atomic_numbers]
    if not names or wrong:
        said = " ".join(wrong) or "no elements"
        raise ConfigError(f"{coefficients[0].place}: {said}: give the element of each atom type by its symbol")
    return names


def _commands(file: Path, depth: int) -> list[Command]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {quoted(error, 200)}; name an input of LAMMPS") from error
    if depth > DEEPEST:
        raise ConfigError(f"{file}: includes itself")
    found: list[Command] = []
    for number, text in _joined(lines):
        command = Command(text, f"{file}:{number}")
        if command.name == "include" and len(command.words) == 2:
            found += _commands(Path(command.words[1]), depth + 1)
        else:
            found.append(command)
    return found


def _joined(lines: list[str]) -> list[tuple[int, str]]:
    """Commands with the number of their first line: comments gone, continued lines and texts in triple quotes joined."""
    found: list[tuple[int, str]] = []
    pending, first = "", 0
    for number, line in enumerate(lines, start=1):
        first = first if pending else number
        pending += line if pending.count('"""') % 2 else _without_comment(line)
        if pending.count('"""') % 2:
            pending += "\n"
        elif pending.rstrip().endswith("&"):
            pending = pending.rstrip()[:-1] + " "
        else:
            if pending.strip():
                found.append((first, pending.strip()))
            pending = ""
    if pending.strip():
        found.append((first, pending.strip()))
    return found


def _without_comment(line: str) -> str:
    """A line up to the first # that is not in quotes."""
    kept = re.match(r"""(?:[^#"']|"[^"]*"|'[^']*')*""", line)
    return line if kept is None or '"""' in line else kept[0]
