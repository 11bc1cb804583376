"""QUIP's argument strings, `word key=value key={several values}`, and the attributes of its XML elements."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ..errors import ModelFileError, UnsupportedPotentialError, quoted

TRUE, FALSE = ("t", "true", ".true.", "1"), ("f", "false", ".false.", "0")


ALIASES = {"z_center": "z"}
"""Two names of one key."""


@dataclass(frozen=True)
class Arguments:
    """A parsed argument string.

    Parameters
    ----------
    place : str
        Where it stands, for messages.
    words : tuple of str
        What comes without an equals sign.
    values : dict of str to str
        Keys in lower case (QUIP does not tell cases apart), values without their outer braces or quotes.
    """

    place: str
    words: tuple[str, ...]
    values: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, place: str) -> Arguments:
        """Split a string; ModelFileError for braces that do not match. Of a key given twice the last counts, as in QUIP:
        gap_fit appends the elements to what the user wrote."""
        words: list[str] = []
        values: dict[str, str] = {}
        for word in _split(text, place):
            key, equals, value = word.partition("=")
            if not equals:
                words.append(word)
                continue
            values[ALIASES.get(key.lower(), key.lower())] = _bare(value)
        return cls(place, tuple(words), values)

    def text(self, key: str, default: str | None = None) -> str:
        """A value as it stands; ModelFileError where it is missing and has no default."""
        value = self.values.get(key.lower(), default)
        if value is None:
            raise ModelFileError(f"{self.place}: {key} is missing; restore the text that the potential was fitted with")
        return value

    def number(self, key: str, default: str | None = None) -> float:
        return number(self.text(key, default), f"{self.place}: {key}")

    def positive(self, key: str, default: str | None = None) -> float:
        return positive(self.text(key, default), f"{self.place}: {key}")

    def integer(self, key: str, default: str | None = None) -> int:
        return integer(self.text(key, default), f"{self.place}: {key}")

    def integers(self, key: str, default: str | None = None) -> list[int]:
        return [integer(word, f"{self.place}: {key}") for word in self.text(key, default).split()]

    def flag(self, key: str, default: str) -> bool:
        return flag(self.text(key, default), f"{self.place}: {key}")

    def refuse_others(self, read: Iterable[str], fixed: Mapping[str, str]) -> None:
        """UnsupportedPotentialError for a key that is neither in `read` nor in `fixed` with the value it has there."""
        known = {key.lower() for key in read}
        only = {key.lower(): value for key, value in fixed.items()}
        for key, value in self.values.items():
            if key in known or (key in only and _same(value, only[key])):
                continue
            allowed = f"mlpot computes {only[key]} only" if key in only else "mlpot does not know this option"
            raise UnsupportedPotentialError(
                f"{self.place}: {key} = {quoted(value)}: {allowed}; evaluate this potential with QUIP, or fit one without it"
            )


def _split(text: str, place: str) -> list[str]:
    """Words between blanks that stand outside braces and quotes."""
    words, word, depth, inside = [], "", 0, False
    for character in [*text.replace("\n", " ").replace("\t", " "), " "]:
        if character == '"' and not depth:
            inside = not inside
        depth += (character == "{") - (character == "}")
        if character == " " and not depth and not inside:
            words += [word] if word else []
            word = ""
        else:
            word += character
        if depth < 0:
            break
    if depth or inside:
        raise ModelFileError(f"{place}: braces or quotes do not match in {quoted(text.strip())}; restore the file")
    return words


def _bare(value: str) -> str:
    pairs = {"{": "}", '"': '"'}
    return value[1:-1].strip() if len(value) > 1 and pairs.get(value[0]) == value[-1] else value


def _same(value: str, wanted: str) -> bool:
    """Whether two texts mean the same flag, number or word."""
    value, wanted = value.lower(), wanted.lower()
    if wanted in ("t", "f"):
        return value in (TRUE if wanted == "t" else FALSE)
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted


def read_regular(file: Path, why: str, most: int) -> bytes:
    """The content of a regular file, limited in size. Devices and pipes are refused, as reading them may never end.

    Raises
    ------
    ModelFileError
        For anything else, with the reason why it is needed and what to do.
    """
    try:
        # opening a pipe would wait for a writer
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as handle:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError(f"{file}: is not a regular file; {why}")
            if status.st_size > most:
                raise ModelFileError(f"{file}: is {status.st_size} bytes long, at most {most} are expected; {why}")
            return handle.read(status.st_size)
    except OSError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{file}: cannot be read ({error.strerror}); {why}") from error


def number(text: str, place: str) -> float:
    """A finite number as Fortran writes it; ModelFileError naming the place otherwise."""
    try:
        value = float(text.lower().replace("d", "e"))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ModelFileError(f"{place} = {quoted(text)}: must be a finite number; restore the file")
    return value


def positive(text: str, place: str) -> float:
    """A finite number above zero; ModelFileError naming the place otherwise."""
    value = number(text, place)
    if value <= 0:
        raise ModelFileError(f"{place} = {quoted(text)}: must be positive; restore the file")
    return value


def numbers(data: bytes | str, place: str) -> np.ndarray:
    """Finite numbers between blanks or line ends (n,); ModelFileError naming the place otherwise."""
    text = data.encode() if isinstance(data, str) else data
    try:
        values = np.loadtxt(BytesIO(text), comments=None, ndmin=1) if text.strip() else np.zeros(0)
        if np.all(np.isfinite(values)):
            return values.ravel()
    except ValueError:
        pass  # lines of different lengths, an exponent of Fortran, or the one word that is named below
    return np.array([number(word, place) for word in text.decode("ascii", errors="replace").split()])


def integer(text: str, place: str) -> int:
    """A whole number; ModelFileError naming the place otherwise."""
    try:
        if len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError as error:
        raise ModelFileError(f"{place} = {quoted(text)}: must be a whole number; restore the file") from error


def flag(text: str, place: str) -> bool:
    """T or F; ModelFileError naming the place otherwise."""
    if text.lower() not in TRUE + FALSE:
        raise ModelFileError(f"{place} = {quoted(text)}: must be T or F; restore the file")
    return text.lower() in TRUE


def attribute(element: Element, name: str, place: str) -> str:
    """An attribute of an XML element; ModelFileError naming the place where it is missing."""
    value = element.get(name)
    if value is None:
        raise ModelFileError(f"{place}: <{element.tag}> has no attribute {name!r}; restore the file")
    return value


def child(element: Element, name: str, place: str) -> Element:
    """A child of an XML element; ModelFileError naming the place where it is missing."""
    found = element.find(name)
    if found is None:
        raise ModelFileError(f"{place}: <{element.tag}> holds no <{name}>; restore the file")
    return found
