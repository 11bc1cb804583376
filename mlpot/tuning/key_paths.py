"""Paths of settings: "terms[1].cutoff", "terms[*].cutoff_width" (all terms that have it), "terms[2]" (a switch), "force_noise"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from ..errors import ConfigError
from ..keys.explain import OF_A_CLASS, TAGS, did_you_mean, kinds
from ..settings.fit import FitConfig, FitSettings

PATTERN = re.compile(r"(?:model\.|fit\.)?(?:terms\[(?P<term>\d+|\*)\](?:\.(?P<key>\w+))?|(?P<own>\w+))")
GENERAL = tuple(name for name in FitSettings.model_fields if name not in ("tune", "seed", "check_labels", "adapt"))
WEIGHT_KEYS = frozenset({"energy_noise", "force_noise", "virial_noise", "energy_scale", "n_sparse"})
"""Settings that do not describe environments: the step "weights" determines them."""
JOINT_KEYS = frozenset({"config_type_noise", "sparse_method", "sparse_tolerance", "max_sparse", "config_type_n_sparse"})
"""Settings that neither the step "features", which chooses no sparse points, nor the step "weights" can compare."""


@dataclass(frozen=True)
class KeyPath:
    """Place of a setting in a configuration.

    Parameters
    ----------
    term : int, "*" or None
        Index of a term, all terms, or a setting of the whole fit.
    key : str or None
        None: whether there is such a term at all.
    """

    term: int | str | None
    key: str | None

    def __str__(self) -> str:
        if self.term is None:
            return str(self.key)
        return f"terms[{self.term}]" + (f".{self.key}" if self.key else "")

    @classmethod
    def parsed(cls, text: str, template: FitConfig, others: Iterable[str] = ()) -> KeyPath:
        """Path from its text.

        Parameters
        ----------
        template : FitConfig
            With the terms that there are.
        others : iterable of str
            Paths of the same search: with "terms[1].type" among them, keys of all types are known.

        Raises
        ------
        ConfigError
            If no setting is there, with the nearest known one.
        """
        found = PATTERN.fullmatch(text)
        if found is None:
            raise ConfigError(f'tune.search."{text}": is no path of a setting; write for example "terms[0].cutoff" or "force_noise"')
        if found["own"]:
            if found["own"] not in GENERAL:
                near = did_you_mean(found["own"], [*GENERAL, "terms[0].cutoff"], repr)
                raise ConfigError(f'tune.search."{text}": unknown key{near or "; keys of terms are written as terms[0].cutoff"}')
            return cls(None, found["own"])
        n_terms = len(template.terms)
        term = found["term"] if found["term"] == "*" else int(found["term"])
        if isinstance(term, int) and term >= n_terms:
            have = f"{n_terms} term{'s' if n_terms > 1 else ''} (0 to {n_terms - 1})" if n_terms > 1 else "1 term (0)"
            raise ConfigError(f'tune.search."{text}": there is no such term; the model has {have}')
        if term == "*" and found["key"] is None:
            raise ConfigError(f'tune.search."{text}": name one term to switch, such as "terms[1]"')
        path = cls(term, found["key"])
        if found["key"] is not None:
            path._check_key(text, template, any(o.endswith("].type") for o in others))
        return path

    def _check_key(self, text: str, template: FitConfig, any_type: bool) -> None:
        classes = list(TAGS.values()) if any_type else [type(template.terms[k]) for k in self._terms(template)]
        if any(TAGS[OF_A_CLASS] is kind for kind in classes):
            return  # keyword arguments of a descriptor, which it checks itself
        known = {name for kind in classes for name in kind.model_fields}
        if self.key not in known:
            raise ConfigError(f'tune.search."{text}": unknown key{did_you_mean(self.key, sorted(known), repr)}')

    def _terms(self, template: FitConfig) -> list[int]:
        return list(range(len(template.terms))) if self.term == "*" else [int(self.term)]  # type: ignore[arg-type]

    def fields(self, template: FitConfig) -> list[FieldInfo]:
        """Declarations of the setting in the terms that it belongs to."""
        if self.term is None:
            return [FitConfig.model_fields[str(self.key)]]
        found = [type(template.terms[k]).model_fields.get(str(self.key)) for k in self._terms(template)]
        found += [kind.model_fields.get(str(self.key)) for kind in TAGS.values()] if not any(found) else []
        return [field for field in found if field is not None]

    def is_integer(self, template: FitConfig) -> bool:
        """Whether the setting takes whole numbers only."""
        if self.key is None:
            return False
        fields = self.fields(template)
        return self.key == "zeta" or (bool(fields) and all(int in kinds(f) and float not in kinds(f) for f in fields))

    def is_conditional(self, template: FitConfig, others: Sequence[KeyPath]) -> bool:
        """Whether the setting may belong to another type of term than the one in the template."""
        return any(o.key == "type" for o in others) or any(
            isinstance(t, TAGS[OF_A_CLASS]) for t in template.terms
        )

    @property
    def is_weight(self) -> bool:
        """Whether the step "weights" determines it."""
        return self.key in WEIGHT_KEYS

    def get(self, template: FitConfig) -> Any:
        """Value in a configuration; None where it has none."""
        if self.term is None:
            return getattr(template, str(self.key))
        if self.key is None:
            return True
        found = [getattr(template.terms[k], self.key, None) for k in self._terms(template)]
        return next((value for value in found if value is not None), None)

    def set(self, terms: list[dict[str, Any] | None], general: dict[str, Any], value: Any) -> None:
        """Set a value in tables of terms, which become None where they are switched off, or among the general settings."""
        if self.term is None:
            general[str(self.key)] = value
            return
        for k in range(len(terms)) if self.term == "*" else [int(self.term)]:
            own = terms[k]
            if own is None:
                continue
            if self.key is None:
                terms[k] = own if value else None
            elif self.key == "type":
                kind = TAGS.get(OF_A_CLASS if ":" in str(value) else str(value))
                known = set(kind.model_fields) if kind else set(own)
                terms[k] = {**{name: v for name, v in own.items() if name in known}, "type": value}
            else:
                kind = TAGS.get(OF_A_CLASS if ":" in str(own["type"]) else str(own["type"]))
                if kind is None or self.key in kind.model_fields or ":" in str(own["type"]):
                    own[self.key] = value
