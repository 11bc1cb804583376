"""Environments that an imported potential is known for, from reference structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ..descriptors.protocol import Descriptor
from ..errors import StructureError
from ..fitting.accumulate import silent
from ..fitting.streamed_selection import choose_sparse_points
from ..neighbours import find_pairs
from ..settings.bispectrum import BispectrumTermSettings
from ..structures import LabelledStructure, name_of
from ..terms.features import FeatureTerm
from ..terms.kernels import make_kernel
from ..terms.unit_features import UnitFeatures

SETTINGS = BispectrumTermSettings(kernel="gaussian", n_sparse="auto", max_sparse=1000)
"""As of a term that is fitted with bispectrum components: sparse points until these explain every reference environment."""


def reference_term(descriptor: Descriptor, structures: Sequence[Atoms]) -> FeatureTerm:
    """Term without a contribution to the energy whose sparse points represent the environments in these structures.

    Raises
    ------
    StructureError
        If there are no structures, if they contain an element that the descriptor does not know, or atoms that overlap.
    """
    if not structures:
        raise StructureError("structures: are empty; novelty needs the structures that a potential was made for")
    unknown = {z for atoms in structures for z in atoms.numbers.tolist()} - set(descriptor.species)
    if unknown:
        symbols = [[chemical_symbols[z] for z in sorted(own)] for own in (unknown, descriptor.species)]
        raise StructureError(f"structures: contain {symbols[0]}, but the potential knows {symbols[1]}; leave these structures out")
    named = [name_of(atoms, f"structure {k}") for k, atoms in enumerate(structures)]
    frames = [LabelledStructure(a, None, None, None, "default", n) for a, n in zip(structures, named, strict=True)]
    unit = UnitFeatures(descriptor, SETTINGS.offset, SETTINGS.standardise)
    kernel = make_kernel(SETTINGS.kernel, length_scale=SETTINGS.length_scale)
    none = tuple(np.empty((0, unit.n_features)) for _ in descriptor.species)
    term = FeatureTerm(unit, kernel, (1.0,) * len(none), none).settled([find_pairs(atoms, descriptor.cutoff) for atoms in structures])
    rng = np.random.default_rng(0)
    points = tuple(choose_sparse_points(term, z, frames, SETTINGS, rng, silent) for z in descriptor.species)
    return term.with_points(points)
