"""Published SNAP potentials of LAMMPS (pair_style snap), linear and quadratic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from .. import __version__
from ..descriptors.bispectrum import Bispectrum
from ..errors import ConfigError, ModelFileError
from ..models.sparse_gp import SparseGP
from ..terms.baseline import Baseline
from ..terms.linear import LinearTerm
from .snap_files import SnapElement, SnapParameters, read_elements, read_parameters
from .snap_references import reference_term


def read_snap(coefficients: str | Path, parameters: str | Path, structures: Sequence[Atoms] = ()) -> SparseGP:
    """A SNAP potential as a model; energies, forces and virials are LAMMPS' in metal units.

    Linear and quadratic potentials of one or several elements, with `chemflag`, `bzeroflag`, `bnormflag` and `wselfallflag`. The
    coefficients of all elements of the file are read. Nothing is known of the errors, so there are no standard deviations, and no
    novelty without `structures`. What the input of LAMMPS adds with pair_style hybrid/overlay, such as a ZBL repulsion, is not in
    the two files.

    Parameters
    ----------
    coefficients, parameters : path
        NAME.snapcoeff and NAME.snapparam.
    structures : sequence of ase.Atoms
        Structures that the potential was made for, with or without labels: predictions then state the novelty of every environment
        (`Prediction.novelty`), compared in the potential's own bispectrum components.

    Returns
    -------
    SparseGP
        Without `config`, `report` and `factor`.

    Raises
    ------
    ModelFileError
        A file is missing, damaged, or does not belong to the other; the message names the line and the key.
    UnsupportedPotentialError
        An option that mlpot does not compute.
    StructureError
        `structures` contain an element that the potential does not know, or atoms that overlap.

    References
    ----------
    Thompson et al., J. Comput. Phys. 285, 316 (2015), doi:10.1016/j.jcp.2014.12.018; quadratic: Wood and Thompson, J. Chem. Phys.
    148, 241721 (2018), doi:10.1063/1.5017641.
    """
    coefficients, parameters = Path(coefficients), Path(parameters)
    term, weights = _linear_term(coefficients, parameters)
    references = (reference_term(term.descriptor, structures),) if len(structures) else ()
    nothing = np.zeros(sum(own.n_sparse for own in references))
    return SparseGP(
        species=term.species,
        terms=(term, *references),
        weights=np.concatenate([weights, nothing]),
        baseline=Baseline(dict.fromkeys(term.species, 0.0), repulsion=False),
        factor=None,
        jitter=0.0,
        provenance=_provenance(coefficients, parameters),
    )


def _linear_term(coefficients: Path, parameters: Path) -> tuple[LinearTerm, np.ndarray]:
    """The term and its coefficients, in its own order."""
    own, elements = read_parameters(parameters), read_elements(coefficients)
    descriptor = _descriptor(own, elements, parameters)
    term = LinearTerm(descriptor, "quadratic" if own.flags["quadraticflag"] else "linear")
    given = len(elements[0].coefficients)
    if given != term.n_basis:
        raise ModelFileError(
            f"{coefficients}: {given} coefficients for each element, but twojmax = {own.twojmax} in {parameters} needs "
            f"{term.n_basis} ({term.label}, {descriptor.n_features} components); the files do not belong together"
        )
    by_number = {element.number: element.coefficients for element in elements}
    order = _order(descriptor, elements, term)
    return term, np.concatenate([by_number[z][order] for z in descriptor.species])


def _provenance(coefficients: Path, parameters: Path) -> dict[str, str]:
    return {
        "mlpot_version": __version__,
        "snap_coefficients": coefficients.name,
        "snap_parameters": parameters.name,
        "snap_sha256": hashlib.sha256(coefficients.read_bytes() + parameters.read_bytes()).hexdigest(),
    }


def _descriptor(own: SnapParameters, elements: tuple[SnapElement, ...], file: Path) -> Bispectrum:
    ordered = sorted(elements, key=lambda element: element.number)
    flags = own.flags
    try:
        return Bispectrum(
            tuple(element.number for element in ordered), 2 * own.rcutfac * max(element.radius for element in ordered), own.twojmax,
            own.rfac0, own.rmin0, tuple(element.radius for element in ordered), tuple(element.weight for element in ordered),
            chem=flags["chemflag"], wselfall=flags["wselfallflag"] and flags["chemflag"], bnorm=flags["bnormflag"],
            bzero=flags["bzeroflag"],
        )  # fmt: skip
    except ConfigError as error:
        raise ModelFileError(f"{file}: {error}") from error


def _order(descriptor: Bispectrum, elements: tuple[SnapElement, ...], term: LinearTerm) -> np.ndarray:
    """Coefficient in the file (n_basis,) of every basis function: element channels are in the order of the file there."""
    n = descriptor.n_features
    place = {number: k for k, number in enumerate(element.number for element in elements)}
    rank = [place[number] for number in descriptor.species] if descriptor.chem else [0]
    each = n // len(rank) ** 3
    features = np.array(
        [
            ((rank[a] * len(rank) + rank[b]) * len(rank) + rank[c]) * each + k % each
            for k, ((_, a), (_, b), (_, c)) in enumerate(descriptor.triples)
        ]
    )
    if term.basis == "linear":
        return np.concatenate([[0], 1 + features])
    number = np.zeros((n, n), int)
    number[np.triu_indices(n)] = np.arange(n * (n + 1) // 2)
    number = np.maximum(number, number.T)
    a, b = np.triu_indices(n)
    return np.concatenate([[0], 1 + features, 1 + n + number[features[a], features[b]]])
