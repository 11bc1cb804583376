"""Base of all settings: immutable models whose errors are ours, from files and from Python alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ..errors import ConfigError
from .explain import BEYOND, CONVERTED, TAGS, beyond, explained, refused

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:  # wherever this version of pydantic keeps it
    ModelMetaclass = type(BaseModel)


@contextmanager
def explaining(schema: type[BaseModel], values: Any, where: str) -> Iterator[None]:
    """Turn errors of pydantic in the block into a ConfigError with one line for each key that is wrong, each starting with
    `where`."""
    try:
        yield
    except ValidationError as error:
        # from None: a traceback with pydantic's words above ours would confuse
        raise ConfigError("\n".join(f"{where}: {line}" for line in explained(error, schema, values))) from None


class _Explaining(ModelMetaclass):
    """Classes whose calls raise ConfigError; positional arguments are fields in the order in which they are declared."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        schema = cast(type[BaseModel], cls)
        names = list(schema.model_fields)
        if len(args) > len(names) or (twice := set(names[: len(args)]) & set(kwargs)):
            given = f"{len(args)} values for {len(names)} keys" if len(args) > len(names) else f"two values for {sorted(twice)}"
            raise ConfigError(f"{cls.__name__}: {given}; name the keys, as in {names[0]} = ...")
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        with explaining(schema, values, cls.__name__):
            return super().__call__(**values)


class Settings(BaseModel, metaclass=_Explaining):
    """Base of all settings: immutable; unknown keys and wrong values are errors (ConfigError)."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class under the value of its key `type`, if it has one."""
        kind = cls.model_fields.get("type")
        if kind is not None and isinstance(kind.default, str):
            TAGS[kind.default] = cls

    @model_validator(mode="before")
    @classmethod
    def _is_not_converted(cls, values: Any) -> Any:
        """Refuse what pydantic would convert silently, see `refused`, and numbers of impossible sizes."""
        for key, value in values.items() if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(key)
            if field is None:
                continue
            for problem, applies in ((CONVERTED, refused), (BEYOND, beyond)):
                if applies(value, field):
                    raise PydanticCustomError(problem, problem, {"key": key})
        return values

    @classmethod
    def checked(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """An instance made of the values of a file.

        Parameters
        ----------
        values : dict
            As `tomllib` or `json` read them.
        where : str
            Start of every line of the error, such as the name of the file.

        Raises
        ------
        ConfigError
            One line for each key that is unknown, missing or has a wrong value.
        """
        with explaining(cls, values, where or cls.__name__):
            return super().model_validate(values)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, with errors that are ConfigErrors."""
        with explaining(cls, obj, cls.__name__):
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """As pydantic's, with errors that are ConfigErrors."""
        try:
            values = json.loads(json_data)
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: is not valid JSON: {error}") from None
        with explaining(cls, values, cls.__name__):
            return super().model_validate_json(json_data, **options)

    def changed(self, **values: Any) -> Self:
        """A copy with other values, checked like any new instance."""
        return type(self)(**{**dict(self), **values})

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(
            f"{type(self).__name__}.{name}: settings cannot be changed in place; use settings.changed({name}=...)"
        )

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"{type(self).__name__}.{name}: settings cannot be deleted; use settings.changed(...)")

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Only values that differ from the defaults."""
        for name, field in type(self).model_fields.items():
            if (value := getattr(self, name)) != field.get_default(call_default_factory=True):
                yield name, value
