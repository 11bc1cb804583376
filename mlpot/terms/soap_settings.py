"""Creation of density descriptors from the settings of a term."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..descriptors.contractions import make_contractions
from ..descriptors.density import SoapDescriptor
from ..descriptors.density_core import Y_00
from ..descriptors.mixing import make_reduction
from ..descriptors.radial_basis import RADIAL_BASES
from ..settings.fit import SoapTermSettings


@lru_cache(maxsize=32)
def make_descriptor(settings: SoapTermSettings, species: tuple[int, ...]) -> SoapDescriptor:
    """Create the density descriptor for the settings of a term; learned channels have their initial values."""
    basis = RADIAL_BASES[settings.radial_basis](
        settings.n_max, settings.l_max, settings.cutoff, settings.cutoff_width, settings.atom_sigma
    )
    reduction = None if settings.is_whole else make_reduction(settings, species, basis.n_max)
    own = SoapDescriptor(species, basis, settings.central_weight, constant=settings.constant, reduction=reduction)
    return contracted(own, settings)


def contracted(descriptor: SoapDescriptor, settings: SoapTermSettings) -> SoapDescriptor:
    """Add contractions of channels to a descriptor, if the settings of the term ask for them."""
    if settings.order == 2:
        return descriptor
    basis = descriptor.basis
    contractions = make_contractions(
        settings.order, min(settings.order_l_max, basis.l_max), settings.order_weight, descriptor.weights,
        descriptor.species, settings.order_channels, settings.mix_seed,
        float(np.linalg.norm(basis.self_coefficients()) * Y_00),
    )  # fmt: skip
    return replace(descriptor, contractions=contractions)
