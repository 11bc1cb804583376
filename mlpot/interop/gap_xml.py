"""Published GAP potentials: QUIP's XML and the files of sparse points next to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .. import __version__
from ..errors import ModelFileError, UnsupportedPotentialError, quoted
from ..models.sparse_gp import SparseGP
from ..terms.baseline import Baseline
from .gap_coordinates import Coordinate, read_coordinate
from .gap_terms import terms_of
from .glue_xml import read_glue
from .quip_text import Arguments, attribute, child, flag, integer, number, read_regular

LARGEST_XML = 2**30
"""Largest size of a file in bytes; published potentials including all their training data have a tenth of it."""
REGULARISATION = 1e-3
"""Default of gap_variance_regularisation, eV: QUIP adds its square to the variances of sparse points and of environments."""


def read_gap(file: str | Path) -> SparseGP:
    """A GAP potential as a model; energies, forces, virials and local variances are QUIP's.

    Coordinates of kind soap, distance_2b and angle_3b are read, isolated-atom energies (e0), and a tabulated potential
    (`Glue`) beneath the GAP. f0 of a soap coordinate is left out, as in QUIP's energies.

    Parameters
    ----------
    file : path
        The XML; the files of sparse points that it names are next to it.

    Returns
    -------
    SparseGP
        Without `config`, `report` and `factor`: nothing is known of the data.

    Raises
    ------
    ModelFileError
        A file is missing, malformed, truncated, or belongs to another potential.
    UnsupportedPotentialError
        A part, or an option of a part, that mlpot does not compute; the message says which and where.

    References
    ----------
    Bartok, Payne, Kondor, Csanyi, Phys. Rev. Lett. 104, 136403 (2010), doi:10.1103/PhysRevLett.104.136403;
    Bartok and Csanyi, Int. J. Quantum Chem. 115, 1051 (2015), doi:10.1002/qua.24927.
    """
    file = Path(file)
    root, digest = _parse(file)
    parameters, glue_element = _parts(root, file)
    place = f"{file}: GAP_params {quoted(parameters.get('label', ''))}"
    version = integer(parameters.get("gap_version", "0"), f"{place}: gap_version")
    coordinates = _coordinates(parameters, file, place)
    species, terms, weights = terms_of(coordinates, version)
    glue = None if glue_element is None else read_glue(glue_element, str(file))
    if glue is not None and not set(species) <= set(glue.species):
        raise ModelFileError(
            f"{file}: Glue_params describes elements {list(glue.species)}, GAP_params {list(species)}; restore the file"
        )
    return SparseGP(
        species=species,
        terms=tuple(terms),
        weights=weights,
        baseline=Baseline(
            _isolated_atom_energies(child(parameters, "GAP_data", place), species, place), repulsion=False, glue=glue
        ),
        factor=None,
        jitter=0.0,
        regularisation=REGULARISATION,
        provenance={"mlpot_version": __version__, "gap_file": file.name, "gap_sha256": digest},
    )


def _parse(file: Path) -> tuple[Element, str]:
    """The root of the XML and the hash of the file."""
    data = read_regular(file, "give the path of a GAP's XML file", LARGEST_XML)
    try:
        return ElementTree.fromstring(data), hashlib.sha256(data).hexdigest()
    except ElementTree.ParseError as error:
        raise ModelFileError(
            f"{file}: is not well-formed XML ({error}); restore it, or give the XML file of a GAP potential"
        ) from error


def _parts(root: Element, file: Path) -> tuple[Element, Element | None]:
    """<GAP_params> and, where the potential is a sum with it, <Glue_params>."""
    potentials = list(root.iter("Potential"))
    if len(potentials) > 1:
        labels = [potential.get("label", "") for potential in potentials]
        potentials = [potential for potential, label in zip(potentials, labels, strict=True) if label == root.tag]
        if len(potentials) != 1:
            raise UnsupportedPotentialError(
                f"{file}: holds {len(labels)} potentials {labels}, not one of them alone with label {quoted(root.tag)}; keep one "
                "<Potential>"
            )
    text = attribute(potentials[0], "init_args", str(file)) if potentials else "IP GAP"
    found: dict[str, Element] = {}
    for summand in _summands(text, f"{file}: Potential, init_args"):
        kind = " ".join(summand.words).lower()
        if kind not in _PARAMETERS or kind in found:
            raise UnsupportedPotentialError(
                f"{summand.place} = {quoted(text)}: mlpot reads one IP GAP, alone or summed with one IP Glue; evaluate this "
                "potential with QUIP"
            )
        summand.refuse_others(("label",), {"E_scale": "1", "r_scale": "1"})
        found[kind] = _labelled(root, _PARAMETERS[kind], summand.values.get("label"), file)
    if "ip gap" not in found:
        raise UnsupportedPotentialError(
            f"{file}: Potential, init_args = {quoted(text)}: holds no IP GAP; give a GAP potential"
        )
    data = found["ip gap"].find("GAP_data")
    if "ip glue" not in found and data is not None and flag(data.get("do_core", "F"), f"{file}: GAP_data, do_core"):
        raise ModelFileError(
            f"{file}: GAP_data, do_core = T, but the init_args of <Potential> name no potential beneath the GAP; restore the file"
        )
    return found["ip gap"], found.get("ip glue")


_PARAMETERS = {"ip gap": "GAP_params", "ip glue": "Glue_params"}


def _summands(text: str, place: str) -> list[Arguments]:
    """The potentials that an init_args adds up."""
    whole = Arguments.parse(text, place)
    if [word.lower() for word in whole.words] != ["sum"]:
        return [whole]
    names = [key for key in whole.values if key.startswith("init_args_pot")]
    whole.refuse_others(names, {"E_scale": "1", "r_scale": "1"})
    return [Arguments.parse(whole.values[name], place) for name in names]


def _labelled(root: Element, tag: str, label: str | None, file: Path) -> Element:
    """The element with a label; without one, the only element of that kind."""
    every = list(root.iter(tag))
    found = [element for element in every if label in (None, "", element.get("label"))]
    if len(found) != 1:
        labels = [element.get("label", "") for element in every]
        wanted = f" with label {quoted(label)}" if label else ""
        raise ModelFileError(f"{file}: must hold one <{tag}>{wanted}, but has {labels}; restore the file")
    return found[0]


def _coordinates(parameters: Element, file: Path, place: str) -> list[Coordinate]:
    sparse = child(parameters, "gpSparse", place)
    elements = sparse.findall("gpCoordinates")
    announced = integer(attribute(sparse, "n_coordinate", place), f"{place}: n_coordinate")
    if len(elements) != announced or not elements:
        raise ModelFileError(
            f"{place}: n_coordinate = {announced} but <gpCoordinates> stands {len(elements)} times; restore the file"
        )
    return [read_coordinate(element, file) for element in elements]


def _isolated_atom_energies(data: Element, species: tuple[int, ...], place: str) -> dict[int, float]:
    """e0 of each element in eV, 0 where the file gives none, as QUIP does."""
    general = number(data.get("e0", "0"), f"{place}: e0")
    given = {
        integer(attribute(e0, "Z", place), f"{place}: e0, Z"): number(
            attribute(e0, "value", place), f"{place}: e0, value"
        )
        for e0 in data.findall("e0")
    }
    return {z: given.get(z, general) for z in species}
