"""Keys of invariants of three and four densities: what they make, and what is refused."""

import numpy as np
import pytest

from mlpot.errors import ConfigError
from mlpot.settings.fit import SoapTermSettings
from mlpot.terms.soap_settings import make_descriptor

SOAP = {"n_max": 4, "l_max": 4, "cutoff": 4.0}


def descriptor(species=(6, 14), **keys):
    return make_descriptor(SoapTermSettings(**SOAP, **keys), species)


def test_none_by_default():
    assert descriptor().contractions is None and descriptor().n_contracted == 0


@pytest.mark.slow
@pytest.mark.parametrize(("order", "l_max", "n_invariants"), [(3, 1, 2), (3, 3, 8), (4, 3, 8 + 15), (3, 6, 14)])
def test_number_of_features(order, l_max, n_invariants):
    """Degrees that the density does not have make no invariants: l_max = 4 here."""
    made = descriptor(order=order, order_l_max=l_max, order_channels=5)
    assert made.n_contracted == 5 * n_invariants
    assert made.n_features == made.n_contracted + 36 * 5


def test_an_element_has_the_same_part_whatever_others_there_are():
    two, three = (descriptor(species, order=3).contractions.shares for species in ((6, 14), (6, 8, 14)))
    scale = two[0] / three[0][:, [0, 1, 2, 3, 8, 9, 10, 11]]
    np.testing.assert_allclose(scale, np.broadcast_to(scale[:, :1], scale.shape))


def test_mixed_channels_serve_as_they_are():
    made = descriptor(mix="both", n_channels=6, coupling="element-wise", symmetric=True, order=3, order_channels=4)
    shares = made.contractions.shares[0]
    assert np.count_nonzero(shares) == 4
    mixed = np.einsum("sq,qzn->szn", shares, made.weights)
    np.testing.assert_allclose(np.mean(mixed**2, axis=(1, 2)), 1.0)


def test_weights_are_powers_of_the_weight():
    own = [descriptor(order=4, order_weight=w).contractions.scales for w in (0.1, 0.2)]
    np.testing.assert_allclose(own[1] / own[0], [2.0, 4.0])


@pytest.mark.parametrize(
    "keys", [{"order": 5}, {"order": 3, "order_l_max": 0}, {"order_channels": 0}, {"order_weight": 0}]
)
def test_what_is_refused(keys):
    with pytest.raises(ConfigError, match=next(reversed(keys))):
        SoapTermSettings(**keys)
