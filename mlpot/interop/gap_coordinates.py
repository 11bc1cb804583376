"""The coordinates of a GAP potential as its files hold them: descriptor text, kernel parameters, sparse points, weights.

Formats: the XML of libAtoms/QUIP (Bartok and Csanyi, Int. J. Quantum Chem. 115, 1051 (2015), doi:10.1002/qua.24927). Sparse
points are in a text file next to the XML, one number a line, or, in old files, inside the XML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ..errors import ModelFileError, UnsupportedPotentialError, quoted
from .quip_text import Arguments, attribute, child, flag, integer, number, numbers, positive, read_regular

SQUARED_EXPONENTIAL, DOT_PRODUCT = 1, 2
"""QUIP's numbers of covariance types."""
WORD = 64
"""Bytes of a number in a text at most; QUIP writes 24."""


@dataclass(frozen=True)
class Coordinate:
    """One Gaussian process of a GAP potential.

    Parameters
    ----------
    place : str
        File and label, for messages.
    kind : str
        Descriptor, as "soap".
    options : Arguments
        Parameters of the descriptor.
    covariance_type : int
        QUIP's number.
    energy_scale, offset : float
        GAP's delta and f0, eV.
    zeta : float or None
        Exponent of a dot-product kernel.
    length_scales : (n_dimensions,) or (0,) array
        GAP's theta.
    sparse_points : (n_sparse, n_dimensions) array
    sparse_cutoffs : (n_sparse,) array
        Values of the cutoff function at the sparse points.
    weights : (n_sparse,) array
        GAP's alpha, 1/eV.
    """

    place: str
    kind: str
    options: Arguments
    covariance_type: int
    energy_scale: float
    offset: float
    zeta: float | None
    length_scales: np.ndarray
    sparse_points: np.ndarray
    sparse_cutoffs: np.ndarray
    weights: np.ndarray


def read_coordinate(element: Element, file: Path) -> Coordinate:
    """A coordinate from its XML element and the file of sparse points next to the XML.

    Raises
    ------
    ModelFileError
        Something is missing, malformed or of another length than announced.
    UnsupportedPotentialError
        Not sparsified, or with permutations.
    """
    place = f"{file}: gpCoordinates {quoted(element.get('label', ''))}"
    text = child(element, "descriptor", place).text or ""
    options = Arguments.parse(text, f"{place}, descriptor")
    if not options.words:
        raise ModelFileError(f"{place}: <descriptor> is {quoted(text.strip())} and names no descriptor; restore the file")
    if not flag(attribute(element, "sparsified", place), f"{place}: sparsified"):
        raise UnsupportedPotentialError(f"{place}: sparsified = F: a full Gaussian process; fit it with sparse points")
    n_dimensions, n_sparse = (integer(attribute(element, key, place), f"{place}: {key}") for key in _COUNTS)
    _refuse_permutations(element, n_dimensions, place)
    points = sorted(element.findall("sparseX"), key=lambda point: integer(attribute(point, "i", place), f"{place}: i"))
    if not _counts_up_to(n_sparse, [point.get("i") for point in points]):
        raise ModelFileError(
            f"{place}: n_sparseX = {n_sparse} but <sparseX> stands {len(points)} times, not numbered one by one; "
            "the file is truncated or was edited: restore it"
        )
    length_scales = _length_scales(element, place)
    return Coordinate(
        place=place,
        kind=options.words[0].lower(),
        options=options,
        covariance_type=integer(attribute(element, "covariance_type", place), f"{place}: covariance_type"),
        energy_scale=positive(attribute(element, "signal_variance", place), f"{place}: signal_variance"),
        offset=number(attribute(element, "signal_mean", place), f"{place}: signal_mean"),
        zeta=_zeta(element, length_scales, place),
        length_scales=length_scales,
        sparse_points=_sparse_points(element, points, (n_sparse, n_dimensions), file, place),
        sparse_cutoffs=_column(points, "sparseCutoff", place),
        weights=_column(points, "alpha", place),
    )


_COUNTS = ("dimensions", "n_sparseX")


def _counts_up_to(n: int, words: Sequence[str | None]) -> bool:
    """Whether these are 1, 2, ... n; the n of a damaged file may be far too large for a list."""
    return len(words) == n and all(word == str(i) for i, word in enumerate(words, start=1))


def _column(points: list[Element], name: str, place: str) -> np.ndarray:
    return np.array([number(attribute(point, name, place), f"{place}: {name}") for point in points])


def _length_scales(element: Element, place: str) -> np.ndarray:
    theta = element.find("theta")
    return np.zeros(0) if theta is None else numbers(theta.text or "", f"{place}: theta")


def _zeta(element: Element, length_scales: np.ndarray, place: str) -> float | None:
    """The exponent; old files keep it in <theta>."""
    text = element.get("zeta")
    if text is not None:
        return positive(text, f"{place}: zeta")
    return float(length_scales[0]) if len(length_scales) == 1 else None


def _refuse_permutations(element: Element, n_dimensions: int, place: str) -> None:
    count = integer(attribute(element, "n_permutations", place), f"{place}: n_permutations")
    for permutation in element.findall("permutation"):
        words = (permutation.text or "").split()
        if count != 1 or not any(_counts_up_to(n, words) for n in (1, n_dimensions)):
            raise UnsupportedPotentialError(
                f"{place}: n_permutations = {count}: mlpot computes descriptors without permutations; evaluate this "
                "potential with QUIP"
            )


def _sparse_points(
    element: Element, points: list[Element], shape: tuple[int, int], file: Path, place: str
) -> np.ndarray:
    name = element.get("sparseX_filename")
    if name is None:
        return np.array([_inline(point, shape[1], place) for point in points]).reshape(shape)
    source = file.parent / _plain_name(name, place)
    data = read_regular(source, f"{place} needs its sparse points; put it next to the XML", shape[0] * shape[1] * WORD)
    values = numbers(data, str(source))
    if len(values) != shape[0] * shape[1]:
        raise ModelFileError(
            f"{source}: holds {len(values)} numbers, not {shape[0]} sparse points times {shape[1]} dimensions of {place}; "
            "the file is truncated or belongs to another potential: restore it"
        )
    wanted = (element.get("sparseX_md5sum") or "").strip()
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if len(wanted) == len(found) and wanted != found:
        raise ModelFileError(
            f"{source}: has MD5 sum {found}, but {place} asks for {wanted}; the file was changed or belongs to another "
            "potential: restore it"
        )
    return values.reshape(shape)


def _plain_name(name: str, place: str) -> str:
    """The name of a file next to the XML; ModelFileError for a path that leads elsewhere."""
    if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise ModelFileError(
            f"{place}: sparseX_filename = {quoted(name)}: must be the plain name of a file next to the XML; put it there"
        )
    return name


def _inline(point: Element, n_dimensions: int, place: str) -> np.ndarray:
    """A sparse point inside the XML, in one piece or in slices."""
    texts = [piece.text or "" for piece in point.findall("sparseX_slice")] or [point.text or ""]
    values = numbers(" ".join(texts), f"{place}: sparseX {point.get('i')}")
    if len(values) != n_dimensions:
        raise ModelFileError(
            f"{place}: sparseX {point.get('i')} holds {len(values)} numbers, not dimensions = {n_dimensions}; restore the file"
        )
    return values
