"""Allowed contents of mlpot's HDF5 files, and reading of them: nothing outside of the file, nothing that is not asked for.

Files come from anywhere. A data set is accepted if it lies in the file itself, uncompressed, as numbers or one text, so that what is
read is never larger than the file; then each must have the shape and the values that whoever asks for it can use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from ..errors import quoted

NAME = re.compile(r"[a-z0-9_]{1,40}")
DEEPEST = 4
"""Levels of names, as in terms/0/contractions/kept."""
MOST_OBJECTS = 50_000
"""Data sets and groups; the terms of forty elements need a thousand."""
LARGEST = 1e30
"""Numbers beyond are not of this world, and products of a few of them not of this machine."""
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS)
Size = int | None
"""Expected length of an axis; None: any."""


def harmless(h5: h5py.File, n_bytes: int) -> dict[str, h5py.Dataset]:
    """All data sets of a file of `n_bytes` bytes by name; nothing of them has been read.

    Raises
    ------
    ValueError
        For links, external or virtual storage, compression, types and sizes that no file of mlpot has.
    """
    found: dict[str, h5py.Dataset] = {}
    groups, n_objects, total = [("", h5["/"])], 0, 0
    while groups:
        prefix, group = groups.pop()
        for name in group:
            place = prefix + name
            n_objects += 1
            _check_link(group, name, place, n_objects)
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append((place + "/", item))
                continue
            total += _checked_size(item, place)
            found[place] = item
    if total > n_bytes:
        raise ValueError(f"data sets of {total} bytes in a file of {n_bytes}")
    return found


def _check_link(group: h5py.Group, name: str, place: str, n_objects: int) -> None:
    """ValueError for anything but a group or a data set of this very file."""
    if not NAME.fullmatch(name) or place.count("/") >= DEEPEST or n_objects > MOST_OBJECTS:
        raise ValueError(f"{quoted(place)}: no such thing is in files of mlpot")
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(
            f"{place}: is a {type(link).__name__}, which leads elsewhere; only what the file holds is read"
        )
    if group.get(name, getclass=True) not in (h5py.Group, h5py.Dataset):
        raise ValueError(f"{place}: is neither a data set nor a group")


def _checked_size(item: h5py.Dataset, place: str) -> int:
    """Bytes of a data set; ValueError for storage or a type that mlpot does not write."""
    properties = item.id.get_create_plist()
    if properties.get_external_count():
        raise ValueError(f"{place}: is stored in another file; only what the file holds is read")
    if properties.get_layout() not in LAYOUTS or properties.get_nfilters():
        raise ValueError(f"{place}: is virtual, chunked or compressed; mlpot writes plain arrays only")
    kind = item.id.get_type()
    is_text = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
    if not is_text and item.dtype.kind + str(item.dtype.itemsize) not in ("f8", "i4", "i8", "u4", "u8", "b1"):
        raise ValueError(f"{place}: has type {quoted(item.dtype)}; mlpot writes numbers of 8 bytes only")
    if item.shape is None or len(item.shape) > 3 or (is_text and item.shape != ()):
        raise ValueError(f"{place}: has shape {quoted(item.shape)}, which no data set of mlpot has")
    n_bytes = int(item.dtype.itemsize) * int(np.prod(item.shape, dtype=object))
    if n_bytes and not is_text and item.id.get_storage_size() != n_bytes:
        raise ValueError(f"{place}: has shape {item.shape} but {item.id.get_storage_size()} bytes are stored of it")
    return n_bytes


class Stored:
    """Data sets of a file, read one by one and checked against what is expected of them.

    Parameters
    ----------
    items : dict of str to h5py.Dataset
        All of them, from `harmless`.
    attributes : h5py.AttributeManager
    version : int
        Of the format of the file.
    """

    def __init__(self, items: Mapping[str, h5py.Dataset], attributes: h5py.AttributeManager, version: int):
        self.version = version
        self._items, self._attributes, self._read = items, attributes, set[str]()

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a required data set."""
        return self._item(name).shape

    def attribute(self, name: str) -> str:
        """A text stored in addition to the data sets."""
        value = self._attributes[name]
        if not isinstance(value, str):
            raise ValueError(f"attribute {name}: is not a text")
        return value

    def text(self, name: str) -> str:
        value = self._item(name)[()]
        if not isinstance(value, bytes):
            raise ValueError(f"{name}: is not a text")
        return value.decode()

    def floats(
        self, name: str, shape: tuple[Size, ...], low: float = -LARGEST, high: float = LARGEST, missing: bool = False
    ) -> np.ndarray:
        """Finite numbers within bounds, inclusive, of a shape; NaN among them only where they may be `missing`."""
        values = self._array(name, shape, "f")
        good = (values >= low) & (values <= high)
        if missing:
            good |= np.isnan(values)
        self._refuse(name, values, good, f"finite and between {low:g} and {high:g}")
        return np.ascontiguousarray(values, float)

    def array(self, name: str) -> np.ndarray:
        """Finite numbers of any shape, whole ones as whole ones."""
        shape = self.shape(name)
        whole = self._item(name).dtype.kind in "iu"
        return self.integers(name, shape, -(2**62), 2**62) if whole else self.floats(name, shape)

    def positive(self, name: str, shape: tuple[Size, ...]) -> np.ndarray:
        """Finite numbers above zero of a shape."""
        values = self.floats(name, shape)
        self._refuse(name, values, values > 0, "positive")
        return values

    def integers(self, name: str, shape: tuple[Size, ...], low: int, high: int) -> np.ndarray:
        """Whole numbers within bounds, inclusive, of a shape."""
        values = self._array(name, shape, "iu")
        self._refuse(name, values, (values >= low) & (values <= high), f"between {low} and {high}")
        return values.astype(np.int64)

    def flags(self, name: str, shape: tuple[Size, ...]) -> np.ndarray:
        values = self._array(name, shape, "b")
        # HDF5 keeps them as bytes, of which only two are flags
        return values.view(np.uint8) != 0

    def refuse_unread(self) -> None:
        """ValueError where the file holds entries that no reader asked for."""
        unknown = sorted(set(self._items) - self._read)
        if unknown:
            raise ValueError(f"{quoted(unknown[0])}: unknown data set, or one of a part that the header does not have")

    def _item(self, name: str) -> h5py.Dataset:
        if name not in self._items:
            raise ValueError(f"{name}: is missing")
        self._read.add(name)
        return self._items[name]

    def _array(self, name: str, shape: tuple[Size, ...], kinds: str) -> np.ndarray:
        item = self._item(name)
        fits = len(item.shape) == len(shape) and all(b in (None, a) for a, b in zip(item.shape, shape, strict=True))
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise ValueError(f"{name}: has shape {item.shape}, not {quoted(wanted)} as the header says")
        if item.dtype.kind not in kinds:
            raise ValueError(f"{name}: has type {item.dtype}, which these numbers have not")
        return item[()] if shape else np.asarray(item[()])

    @staticmethod
    def _refuse(name: str, values: Any, good: Any, wanted: str) -> None:
        if not np.all(good):
            bad = np.asarray(values)[~np.asarray(good)].ravel()[0]
            raise ValueError(f"{name} = {bad!s}: must be {wanted}")
