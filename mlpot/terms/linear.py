"""Linear term: local energies that are linear in coefficients of basis functions of features.

    E_i = sum_k w_k phi_k(f_i)                  a set of coefficients w for every element of the centre
    linear:     phi = 1, f_1 ... f_n
    quadratic:  and f_a^2 / 2, f_a f_b (a < b), row by row

f are the features of any descriptor. Coefficients are the weights of the model. Nothing is known of the data of an imported
potential, so there is no variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from .._ext.core import packed_rows
from ..data.stored import Stored
from ..descriptors.density import species_indices
from ..descriptors.mapped_sums import MappedSums
from ..descriptors.protocol import Descriptor
from ..errors import ConfigError
from ..neighbours import Pairs
from .core_terms import kept, only_in_python
from .defaults import TermDefaults
from .headers import TermHeader
from .mapped_compiled import TYPE, map_tables, source_tables, whole_tiles
from .stored_descriptor import DescriptorHeader, arrays_of, description_of, read_descriptor

NO_VARIANCE = "an imported linear potential has no uncertainty, since its training data are not known; fit a model"


class LinearHeader(DescriptorHeader):
    """Header of a `LinearTerm`."""

    type: Literal["linear"]
    basis: Literal["linear", "quadratic"]


@dataclass(frozen=True)
class CompiledLinearTerm:
    """A linear term with fixed coefficients, as polynomials of the features: E = constant + slopes . f + f . curvatures f / 2.

    Parameters
    ----------
    term : LinearTerm
    constants : (n_species,) array
        eV.
    slopes : (n_species, n_features) array
        eV.
    curvatures : (n_species, n_features, n_features) array or None
        Symmetric, eV; None: zero.
    """

    term: LinearTerm
    constants: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray | None

    @property
    def in_core(self) -> bool:
        """See `CompiledTerm`."""
        return self.term.descriptor.in_core is not None

    def predict(
        self, pairs: Pairs, energies: np.ndarray, pair_gradients: np.ndarray, *, variances: np.ndarray | None = None
    ) -> None:
        """See `PythonTerm`; ConfigError if variances are asked for."""
        if variances is not None:
            raise ConfigError(NO_VARIANCE)
        descriptor = self.term.descriptor
        features = descriptor.compute(pairs)
        kind = species_indices(pairs.numbers, descriptor.species)
        cotangent = self.slopes[kind]
        energies += self.constants[kind] + np.einsum("af,af->a", cotangent, features)
        if self.curvatures is not None:
            for k in np.unique(kind):
                own = np.flatnonzero(kind == k)
                bent = features[own] @ self.curvatures[k]
                energies[own] += 0.5 * np.einsum("af,af->a", bent, features[own])
                cotangent[own] += bent
        pair_gradients += descriptor.vjp(pairs, cotangent)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`; ConfigError for a descriptor of which the core has no sums."""
        descriptor = self.term.descriptor
        if descriptor.in_core is None:
            raise only_in_python(self.term.label)
        return self._tables(descriptor.in_core)

    def _tables(self, sums: MappedSums) -> dict[str, np.ndarray]:
        species = self.term.species
        found = {
            "type": np.array([TYPE]), "species": np.array(species), "prior": np.zeros(len(species)),
            "n_parts": np.array([len(species)]), **source_tables(sums),
        }  # fmt: skip
        for k, number in enumerate(species):
            own = map_tables(number, *sums.map_of(k), 0.0)
            own |= {"l.constant": self.constants[k : k + 1], "l.slopes": whole_tiles(self.slopes[k])}
            own |= {} if self.curvatures is None else {"l.curvatures": packed_rows(self.curvatures[k])}
            found |= {f"p{k}.{name}": array for name, array in own.items()}
        return kept(found)

    def instance_tables(self) -> dict[str, np.ndarray]:
        """Raise ConfigError: there is no variance."""
        raise ConfigError(NO_VARIANCE)


@dataclass(frozen=True)
class LinearTerm(TermDefaults):
    """Local energies linear in basis functions of features; see the formulas above.

    Parameters
    ----------
    descriptor : Descriptor
    basis : str
        "linear" or "quadratic".
    """

    header_type: ClassVar[type[TermHeader]] = LinearHeader
    has_prior: ClassVar[bool] = False

    descriptor: Descriptor
    basis: Literal["linear", "quadratic"] = "linear"

    @property
    def species(self) -> tuple[int, ...]:
        """See `Term`."""
        return self.descriptor.species

    @property
    def cutoff(self) -> float:
        """See `Term`."""
        return self.descriptor.cutoff

    @property
    def label(self) -> str:
        """See `Term`."""
        return f"{self.basis} {type(self.descriptor).__name__}"

    @property
    def n_basis(self) -> int:
        """Number of basis functions, the same for every element."""
        n = self.descriptor.n_features
        return 1 + n + (n * (n + 1) // 2 if self.basis == "quadratic" else 0)

    @property
    def n_sparse(self) -> int:
        """See `Term`: number of coefficients of all elements."""
        return len(self.species) * self.n_basis

    @property
    def energy_scales(self) -> tuple[float, ...]:  # type: ignore[override]
        """See `Term`: none, since the coefficients have no prior."""
        return ()

    def columns_of(self, number: int) -> np.ndarray:
        """See `Term`."""
        first = self.species.index(number) * self.n_basis
        return np.arange(first, first + self.n_basis)

    def prior(self) -> list[np.ndarray]:
        """See `Term`: no blocks."""
        return []

    def instance_variances(self, pairs: Pairs, regularisation: float) -> np.ndarray:
        """Raise ConfigError: there is no variance."""
        raise ConfigError(NO_VARIANCE)

    def basis_values(self, features: np.ndarray) -> np.ndarray:
        """phi (n_atoms, n_basis) of features (n_atoms, n_features)."""
        ones = np.ones((len(features), 1))
        if self.basis == "linear":
            return np.concatenate([ones, features], axis=1)
        a, b = np.triu_indices(features.shape[1])
        return np.concatenate([ones, features, features[:, a] * features[:, b] * np.where(a == b, 0.5, 1.0)], axis=1)

    def predict(self, pairs: Pairs, weights: np.ndarray, energies: np.ndarray, pair_gradients: np.ndarray) -> None:
        """See `Term`: sums over basis functions, and their derivatives one by one."""
        features = self.descriptor.compute(pairs)
        coefficients = np.reshape(weights, (len(self.species), -1))[species_indices(pairs.numbers, self.species)]
        energies += np.einsum("ak,ak->a", coefficients, self.basis_values(features))
        n = features.shape[1]
        cotangent = coefficients[:, 1 : n + 1].copy()
        pairs_of_features = zip(*np.triu_indices(n), strict=True) if self.basis == "quadratic" else ()
        for k, (a, b) in enumerate(pairs_of_features):
            half = 0.5 if a == b else 1.0
            cotangent[:, a] += half * coefficients[:, 1 + n + k] * features[:, b]
            cotangent[:, b] += half * coefficients[:, 1 + n + k] * features[:, a]
        pair_gradients += self.descriptor.vjp(pairs, cotangent)

    def compile(
        self,
        weights: np.ndarray,
        tolerance: float,
        regularisation: float | None = None,
        *,
        single: bool = False,
        known: Sequence[np.ndarray] | None = None,
    ) -> CompiledLinearTerm:
        """See `Term`; no approximation is made."""
        n, each = self.descriptor.n_features, np.reshape(weights, (len(self.species), -1))
        curvatures = None
        if self.basis == "quadratic":
            a, b = np.triu_indices(n)
            curvatures = np.zeros((len(each), n, n))
            curvatures[:, a, b] = curvatures[:, b, a] = each[:, 1 + n :]
        return CompiledLinearTerm(self, each[:, 0].copy(), each[:, 1 : n + 1].copy(), curvatures)

    def description(self) -> dict[str, Any]:
        """See `Term`."""
        return {"type": "linear", "n_arrays": 0, "basis": self.basis, **description_of(self.descriptor)}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Term`."""
        return arrays_of(self.descriptor)

    @classmethod
    def read(cls, header: LinearHeader, stored: Stored, place: str) -> LinearTerm:
        """See `Term`; DescriptorError if the class of the descriptor cannot be imported, or rejects its state."""
        return cls(read_descriptor(header, stored, place), header.basis)
