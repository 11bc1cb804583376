"""Descriptors by name: those that mlpot has, and anybody's, as "package.module:Class".

Security: naming a class imports its module, which runs the module's code. Only plain dotted names are looked up, on `sys.path`
alone, and nothing is called but classes that derive from `Descriptor`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from numbers import Integral, Real
from typing import Any

from ..errors import DescriptorError, quoted
from .protocol import Descriptor

DESCRIPTORS: dict[str, str] = {
    "acsf": "mlpot.descriptors.acsf:ACSF",
    "bispectrum": "mlpot.descriptors.bispectrum:Bispectrum",
    "features": "mlpot.descriptors.model_features:ModelFeatures",
    "chebyshev": "mlpot.descriptors.chebyshev:Chebyshev",
    "mbtr": "mlpot.descriptors.mbtr:Mbtr",
    "zernike": "mlpot.descriptors.zernike:Zernike",
}
"""Short names of descriptors that come with mlpot: a new one is a file of its own and a line here."""
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
MOST_FEATURES = 2_000_000


def is_named(name: object) -> bool:
    """Whether a `type` in settings means a descriptor: one of `DESCRIPTORS`, or an import path."""
    return isinstance(name, str) and (name in DESCRIPTORS or ":" in name)


def path_of(kind: type) -> str:
    """ "package.module:Class" of a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def name_of(kind: type) -> str:
    """The short name of a class that has one, its path otherwise."""
    path = path_of(kind)
    return next((name for name, known in DESCRIPTORS.items() if known == path), path)


def descriptor_class(name: str) -> type[Descriptor]:
    """The class of a name.

    Raises
    ------
    DescriptorError
        For a name that is no import path, a module that cannot be imported, and anything that is no `Descriptor`.
    """
    path = DESCRIPTORS.get(name, name)
    if not PATH.fullmatch(path):
        raise DescriptorError(f'{quoted(name)}: must be "package.module:Class", plain names as `import` takes them')
    module, own = path.split(":")
    try:
        found = getattr(import_module(module), own, None)
    except Exception as error:
        raise DescriptorError(
            f"{quoted(name)}: {module} cannot be imported ({type(error).__name__}: {quoted(error, 200)}); put it where Python finds "
            "it, for example with PYTHONPATH"
        ) from error
    if found is None:
        hint = "; put the class into a module of its own, not into the script" if module == "__main__" else ""
        raise DescriptorError(f"{quoted(name)}: {module} has no {own}{hint}")
    if not (isinstance(found, type) and issubclass(found, Descriptor)):
        raise DescriptorError(f"{quoted(name)}: must be a class that derives from mlpot.Descriptor")
    return found


def parameter_names(kind: type[Descriptor]) -> set[str] | None:
    """Keyword arguments of a class besides the species; None where it takes any."""
    parameters = list(inspect.signature(kind).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def check_parameters(kind: type[Descriptor], given: Mapping[str, Any], shared: set[str]) -> None:
    """Raise DescriptorError for keyword arguments unknown to the class; `shared` keys are allowed in the same table of settings."""
    known = parameter_names(kind)
    for name in given:
        if known is not None and name not in known:
            near = get_close_matches(name, known | shared, n=1, cutoff=0.5)
            raise DescriptorError(f"{name}: unknown key" + (f"; did you mean {near[0]!r}?" if near else ""))


def checked(make: Any, name: str) -> Descriptor:
    """The descriptor that a call without arguments makes.

    Raises
    ------
    DescriptorError
        If the class refuses its arguments, or has no sensible cutoff or number of features.
    """
    try:
        made = make()
    except Exception as error:
        raise DescriptorError(f"{name}: {quoted(error, 300)}") from error
    if not isinstance(made.species, tuple):
        raise DescriptorError(f"{name}: species = {quoted(made.species)}: must be the tuple of atomic numbers that it was given")
    if not (isinstance(made.n_features, Integral) and 0 < int(made.n_features) <= MOST_FEATURES):
        raise DescriptorError(f"{name}: n_features = {quoted(made.n_features)}: must be a whole number between 1 and {MOST_FEATURES}")
    if not (isinstance(made.cutoff, Real) and 0 < float(made.cutoff) < float("inf")):
        raise DescriptorError(f"{name}: cutoff = {quoted(made.cutoff)}: must be a positive number of A")
    return made
