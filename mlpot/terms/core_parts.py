"""Compiled terms of the core that consist of tables for every element, and their observers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..errors import required
from .core_terms import instance_triangles
from .protocol import Residual, Whole


class CompiledPart(Protocol):
    """Compiled tables for the centres of one element."""

    @property
    def number(self) -> int:
        """Atomic number."""

    @property
    def columns(self) -> slice:
        """Columns of its known points among all known points of the term."""

    @property
    def tables(self) -> dict[str, np.ndarray]:
        """Tables for the core without uncertainty."""

    def triangle_tables(self, triangles: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """See `core_terms.triangle_tables`."""


class CompiledParts:
    """Base of compiled terms: tables of the whole term, and of each element with sparse points.

    Parameters
    ----------
    parts : tuple of CompiledPart
    prior_variances : tuple of float
        Prior variances of the local energies of every element, eV^2.
    instances : (callable, float) or None
        Function for the blocks of K_mm, and the square of the regularisation, eV^2, if instance variances are computed.
    """

    parts: tuple[Any, ...]
    prior_variances: tuple[float, ...]
    instances: tuple[Callable[[], list[np.ndarray]], float] | None
    in_core: ClassVar[bool] = True

    def head(self) -> dict[str, np.ndarray]:
        """Tables of the whole term: its type, its elements, and what all elements share."""
        raise NotImplementedError

    def core_tables(self, more: Sequence[dict[str, np.ndarray]] = ()) -> dict[str, np.ndarray]:
        """See `CompiledTerm`. `more` are additional tables of each part."""
        found = self.head() | {"prior": np.array(self.prior_variances), "n_parts": np.array([len(self.parts)])}
        for k, part in enumerate(self.parts):
            own = part.tables | more[k] if more else part.tables
            found |= {f"p{k}.{name}": array for name, array in own.items()}
        return found

    def instance_tables(self) -> dict[str, np.ndarray]:
        """See `CompiledTerm`: with G'G = (K_ss + regularisation)^-1 for every element."""
        prior, variance = required(self.instances, "instances")
        triangles = instance_triangles(prior(), variance)
        return self.core_tables([part.triangle_tables([own]) for part, own in zip(self.parts, triangles, strict=True)])


@dataclass(frozen=True)
class PartsObserver:
    """Observer of such a term; see `Observer`.

    Parameters
    ----------
    term : CompiledParts
    tables : tuple of tables
        Tables of every part for its members; in the last term of a model also the triangles of all terms.
    """

    term: CompiledParts
    tables: tuple[dict[str, np.ndarray], ...]
    in_core: ClassVar[bool] = True

    @classmethod
    def of(
        cls,
        term: CompiledParts,
        members: np.ndarray,
        whole: Whole | None,
        member_tables: Callable[[Any, np.ndarray, Residual | None], dict[str, np.ndarray]],
    ) -> PartsObserver:
        """Create from the members' weights (n_known, N_MEMBERS), 1/eV, of the known points of a term, and the function that makes
        tables of a part from its rows of them."""
        tables = []
        for part in term.parts:
            own = member_tables(part, members[part.columns], whole.residual(part.number) if whole else None)
            tables.append(own | part.triangle_tables(whole.triangles(part.number)) if whole else own)
        return cls(term, tuple(tables))

    @property
    def served(self) -> frozenset[int]:
        """See `Observer`."""
        return frozenset(part.number for part in self.term.parts)

    def core_tables(self) -> dict[str, np.ndarray]:
        """See `Observer`."""
        return self.term.core_tables(self.tables)
