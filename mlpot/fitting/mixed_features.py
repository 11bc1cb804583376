"""Power spectrum of mixed channels from full expansions, and backpropagation of its gradient to the mixing weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from ..descriptors.density import Reduction

EMPTY = 1e-12
"""A power spectrum with a smaller norm counts as zero: an atom without neighbours, if its own density is not included."""


@dataclass(frozen=True)
class MixedFeatures:
    """Normalised power spectra of channels c[q] = sum_zn weights[q, z, n] c_full[z, n], and their derivatives.

    Expansions are (n_species * n_max, n, 1 + n_directions, n_harmonics) arrays: values first, then derivatives. All results have
    the precision of the expansions.

    Parameters
    ----------
    reduction : Reduction
        The channels and the pairs of channels in the spectrum.
    l_max : int
    """

    reduction: Reduction
    l_max: int

    @cached_property
    def _weights(self) -> np.ndarray:
        return self.reduction.weights.reshape(len(self.reduction.weights), -1)

    def _scale(self, precision: np.dtype) -> np.ndarray:
        """Factor (n_pairs, 1, 1, n_l) of every entry."""
        scale = self.reduction.scale[:, None] / np.sqrt(2 * np.arange(self.l_max + 1) + 1)
        return scale[:, None, None].astype(precision)

    @cached_property
    def _scatters(self) -> tuple[csr_array, csr_array]:
        """Sparse matrices that sum pairs (columns) by their first and by their second channel (rows)."""
        r, n_channels = self.reduction, len(self.reduction.weights)
        pairs = np.arange(len(r.a))
        first, second = (csr_array((np.ones(len(pairs)), (q, pairs)), (n_channels, len(pairs))) for q in (r.a, r.b))
        return first, second

    def compute(self, expansions: np.ndarray) -> np.ndarray:
        """Features and their derivatives (n, 1 + n_directions, n_features), of norm 1."""
        raw, norms = self._raw(self._channels(expansions))
        features = raw / norms[:, None, None]
        value = features[:, 0]
        features[:, 1:] -= value[:, None] * np.einsum("nf,ndf->nd", value, features[:, 1:])[:, :, None]
        return features

    def vjp(self, expansions: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """dloss/dweights (n_channels, n_species, n_max) from dloss/dfeatures (n, 1 + n_directions, n_features)."""
        channels = self._channels(expansions)
        by_raw = self._through_norm(*self._raw(channels), cotangent.astype(expansions.dtype))
        gradient = self._through_channels(channels, by_raw)
        flat = gradient.reshape(len(gradient), -1) @ expansions.reshape(len(expansions), -1).T
        return flat.reshape(self.reduction.weights.shape)

    def _channels(self, expansions: np.ndarray) -> np.ndarray:
        """Expansions (n_channels, n, 1 + n_directions, n_harmonics) of the mixed channels."""
        mixed = self._weights.astype(expansions.dtype) @ expansions.reshape(len(expansions), -1)
        return mixed.reshape(-1, *expansions.shape[1:])

    def _raw(self, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features before they are divided by their norms (n, 1 + n_directions, n_features), and the norms (n,)."""
        a, b = channels[self.reduction.a], channels[self.reduction.b]
        products = a * b[:, :, :1]
        products[:, :, 1:] += a[:, :, :1] * b[:, :, 1:]
        entries = np.add.reduceat(products, np.arange(self.l_max + 1) ** 2, axis=3) * self._scale(a.dtype)
        raw = entries.transpose(1, 2, 0, 3).reshape(*entries.shape[1:3], -1)
        return raw, np.maximum(np.linalg.norm(raw[:, 0], axis=1), EMPTY)

    def _through_norm(self, raw: np.ndarray, norms: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """dloss/draw: of the value u = p / |p| and of the derivatives du = (dp - u (u.dp)) / |p|."""
        value, slopes = raw[:, 0] / norms[:, None], raw[:, 1:] / norms[:, None, None]
        along = np.einsum("nf,ndf->nd", value, slopes)
        pull = np.einsum("nf,ndf->nd", value, cotangent[:, 1:])
        out = np.empty_like(cotangent)
        out[:, 1:] = cotangent[:, 1:] - value[:, None] * pull[:, :, None]
        changed = (
            cotangent[:, 0] - np.einsum("nd,ndf->nf", pull, slopes) - np.einsum("nd,ndf->nf", along, cotangent[:, 1:])
        )
        # du contains another factor 1 / |p|: its contribution is along u
        shrunk = np.einsum("ndf,ndf->n", out[:, 1:], slopes)
        out[:, 0] = changed - value * (np.einsum("nf,nf->n", value, changed) + shrunk)[:, None]
        return out / norms[:, None, None]

    def _through_channels(self, channels: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """dloss/dchannels, of the shape of `channels`."""
        n_pairs, degrees, dtype = len(self.reduction.a), np.arange(self.l_max + 1), channels.dtype
        entries = gradient.reshape(*gradient.shape[:2], n_pairs, -1).transpose(2, 0, 1, 3) * self._scale(dtype)
        each = np.repeat(entries, 2 * degrees + 1, axis=3)
        partners = (channels[self.reduction.b], channels[self.reduction.a])
        out = np.zeros((len(channels), channels[0].size), dtype)
        for scatter, other in zip(self._scatters, partners, strict=True):
            part = each * other[:, :, :1]
            part[:, :, 0] += (each[:, :, 1:] * other[:, :, 1:]).sum(axis=2)
            out += scatter.astype(dtype) @ part.reshape(n_pairs, -1)
        return out.reshape(channels.shape)
