"""QUIP's tabulated potentials, `<Glue_params>`."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from ..errors import ModelFileError, UnsupportedPotentialError, quoted
from ..terms.glue import Glue, Table
from .quip_text import attribute, child, integer, number


def read_glue(element: Element, file: str) -> Glue:
    """The potential of a `<Glue_params>` element.

    QUIP reads the table of a density only to fit a (b - r)^3 to it, b being the last distance; so does this.

    Raises
    ------
    ModelFileError
        Something is missing, malformed, or not in increasing order.
    UnsupportedPotentialError
        An embedding energy given by distances (`<potential_neighbours>`).
    """
    place = f"{file}: Glue_params {quoted(element.get('label', ''))}"
    atoms, numbers = {}, {}
    for data in element.iter("per_type_data"):
        kind = integer(attribute(data, "type", place), f"{place}: type")
        numbers[kind] = integer(attribute(data, "atomic_num", place), f"{place}: atomic_num")
        where = f"{place}: per_type_data {kind}"
        if data.find("potential_neighbours") is not None:
            raise UnsupportedPotentialError(
                f"{where}: <potential_neighbours>: mlpot reads <potential_density> only; evaluate this potential with QUIP"
            )
        density = _table(child(data, "density", where), "a", "rho", where)
        embedding = _table(child(data, "potential_density", where), "rho", "E", where)
        atoms[numbers[kind]] = (*_cubic(density), embedding)
    n_types = integer(attribute(element, "n_types", place), f"{place}: n_types")
    if len(atoms) != n_types:
        raise ModelFileError(
            f"{place}: n_types = {n_types} but <per_type_data> describes {len(atoms)} elements; restore the file"
        )
    species = tuple(sorted(atoms))
    return Glue(
        species=species,
        density_scales=tuple(atoms[z][0] for z in species),
        density_reaches=tuple(atoms[z][1] for z in species),
        embeddings=tuple(atoms[z][2] for z in species),
        pair_potentials=_pairs(element, numbers, place),
    )


def _pairs(element: Element, numbers: dict[int, int], place: str) -> tuple[tuple[int, int, Table], ...]:
    found: dict[tuple[int, int], Table] = {}
    for data in element.iter("per_pair_data"):
        kinds = [integer(attribute(data, name, place), f"{place}: {name}") for name in ("type1", "type2")]
        where = f"{place}: per_pair_data {kinds[0]} {kinds[1]}"
        if not set(kinds) <= numbers.keys():
            raise ModelFileError(f"{where}: types are {sorted(numbers)}; restore the file")
        pair = (min(numbers[k] for k in kinds), max(numbers[k] for k in kinds))
        table = _table(child(data, "potential_pair", where), "r", "E", where)
        if found.setdefault(pair, table) != table:
            raise ModelFileError(f"{where}: two different tables for elements {list(pair)}; keep one")
    return tuple((a, b, found[a, b]) for a, b in sorted(found))


def _table(element: Element, x: str, y: str, place: str) -> Table:
    points = element.findall("point")
    where = f"{place}, {element.tag}"
    n_points = integer(attribute(element, "num_points", place), f"{where}: num_points")
    if len(points) != n_points or n_points < 2:
        raise ModelFileError(f"{where}: num_points = {n_points} but {len(points)} <point>; restore the file")
    columns = [tuple(number(attribute(p, name, where), f"{where}: {name}") for p in points) for name in (x, y)]
    if np.any(np.diff(columns[0]) <= 0):
        raise ModelFileError(f"{where}: {x} does not increase from point to point; restore the file")
    return columns[0], columns[1]


def _cubic(density: Table) -> tuple[float, float]:
    """a and b of a (b - r)^3, least squares."""
    reach = density[0][-1]
    powers = (reach - np.array(density[0])) ** 3
    return float(powers @ np.array(density[1]) / (powers @ powers)), reach
