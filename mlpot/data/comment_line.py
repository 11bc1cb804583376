"""The comment line of extended XYZ as ASE reads it, but what ASE takes for something else is read right or is an error here.

ASE gives an empty value (`name=""`, `name=`) the key and value that follow, takes an apostrophe (`name=O'Brien`) for the start of a
text that reaches to the end of the line, and does not know `lattice` or `PBC`: energies, cells and columns are gone without a word.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from ase.io.extxyz import key_val_str_to_dict

from ..errors import DataError, quoted
from .targets import check_symmetric

TENSORS = re.compile(r"(?<![^\s])(stress|virial)(?=\s*=)")
HIDDEN = "mlpot_tensor_"
EMPTY = "mlpot_empty"
"""In place of an empty value."""
PIECES = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|\{(?:[^}\\]|\\.)*+\}|\[(?:[^\]\\]|\\.)*+\])"""
    r"""|(?P<open>["'{\[].*)|\\.?|[^\\"'{\[]++""",
    re.DOTALL,
)
"""Texts between delimiters where ASE sees them, one that is not closed with all that follows, and what is between them."""
ASSIGNED = re.compile(
    r"""(?<![^\s=])([^\s=]++)\s*+=\s*+("(?:[^"\\]|\\.)*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S+)"""
)
WITHOUT_VALUE = re.compile(r"(?<![^\s=])([^\s=]++)\s*+=\s++([^\s=]++)\s*+=")
LABEL = re.compile("energy|force|stress|virial", re.IGNORECASE)
WORD_BEHIND = re.compile(r"(?<![^\s=])([^\s=]++)\s*+=\s*+([^\s=]++)\s++([^\s=]++)(?!\s*+=)")
OTHER_UNITS = re.compile(
    r"((m?ha|hartree|ry|kcal|kj|m?ev)(/.*)?|hartrees|rydbergs?|a\.?u\.?|k|cm-1|kbar|[gmk]?pa)[,;]?", re.IGNORECASE
)
RESERVED = {"lattice": "Lattice", "cell": "Lattice", "properties": "Properties", "pbc": "pbc"}
"""Keys of the format, by their spelling in small letters and by another name."""
ONCE = re.compile("|".join((LABEL.pattern, *RESERVED.values(), "config_type")), re.IGNORECASE)


def comment_line(text: str) -> dict[str, Any]:
    """Keys and values; a stress or virial may have six numbers, xx yy zz yz xz xy.

    ASE refuses all but nine there, with an error that names no frame. What has neither six nor nine numbers is left as it is for
    those who know the frame.

    Raises
    ------
    DataError
        Quotes that hide keys, a key without a value before another one, labels in parts or of other units, keys of the format under
        other names, a `pbc` that is not true or false, a label that is there twice.
    """
    _check_words(text)
    values = key_val_str_to_dict(TENSORS.sub(HIDDEN + r"\1", _without_empty_values(text))) if text else {}
    values = {key: "" if isinstance(value, str) and value == EMPTY else value for key, value in values.items()}
    for key in ("stress", "virial"):
        if HIDDEN + key in values:
            values[key] = _tensor(key, values.pop(HIDDEN + key))
    _check_names(values)
    if "pbc" in values and not _are_flags(values["pbc"]):
        raise DataError(f'pbc = {quoted(values["pbc"])}: write one or three of T and F, such as pbc="T T F"')
    seen: dict[str, str] = {}
    for key, value in ASSIGNED.findall(text):
        if seen.setdefault(key, value) != value and ONCE.search(key):
            raise DataError(f"{key} is there twice, as {quoted(seen[key])} and as {quoted(value)}; keep one of them")
    return values


def _without_empty_values(text: str) -> str:
    """The line with a word in place of every empty text between delimiters; DataError for delimiters that hide other keys."""
    parts = list[str]()
    for match in PIECES.finditer(text):
        piece, start = match[0], match.start()
        is_in_word = start > 0 and not re.match(r"[\s=]", text[start - 1])
        if "=" in piece and (match["open"] or (match["text"] and is_in_word)):
            problem = "is not closed" if match["open"] else "begins within a word"
            word = re.split(r"\s", text[:start])[-1] + piece
            raise DataError(
                f"{quoted(word)}: the {piece[0]} {problem} and hides what follows; "
                f"put a whole value into quotes, or \\ before its {piece[0]}"
            )
        is_empty = match["text"] and len(piece) == 2 and not text[match.end() : match.end() + 1].strip()
        parts.append(f'"{EMPTY}"' if is_empty and parts[-1:] and parts[-1].rstrip().endswith("=") else piece)
    return "".join(parts)


def _check_words(text: str) -> None:
    """DataError for what stands between values: nothing at all, or words that belong to a label."""
    bare = "".join("~" if m["text"] else m[0] for m in PIECES.finditer(text))
    if match := WITHOUT_VALUE.search(bare):
        raise DataError(f'{match[1]}= has no value before "{match[2]}="; give it one, or write {match[1]}=""')
    for key, value, word in WORD_BEHIND.findall(bare):
        if not LABEL.search(key):
            continue
        if re.fullmatch(r"[-+]?[0-9.,]+([eEdD][-+]?[0-9]+)?", word):
            raise DataError(f"{key}={value} {quoted(word)}: a number in two parts; write it in one, or quotes around several numbers")
        if OTHER_UNITS.fullmatch(word) and word.lower() not in ("ev", "ev,", "ev;"):
            raise DataError(f"{key}={value} {quoted(word)}: labels are in eV, A and eV/A^3; convert it")


def _check_names(values: dict[str, Any]) -> None:
    """DataError for a key of the format that has another spelling, so that ASE would go on without."""
    for key, value in values.items():
        right = RESERVED.get(key.lower(), key)
        is_meant = {"cell": np.size(value) in (3, 6, 9), "properties": ":" in str(value)}.get(key.lower(), True)
        if right != key and right not in values and is_meant:
            raise DataError(f"{key} = {quoted(value)}: the format knows {right} only; write {right}=")


def _are_flags(value: Any) -> bool:
    array = np.asarray(value)
    kinds = {"b": True, "i": bool(np.isin(array, (0, 1)).all())}
    return array.shape in ((), (3,)) and kinds.get(array.dtype.kind, False)


def _tensor(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{key} = {quoted(value)}: the {key} must be 6 (xx yy zz yz xz xy) or 9 numbers; repair or remove it")
    if array.shape == (9,):  # ASE averages over opposite components, so that nothing of it is seen later
        check_symmetric(key, array, 100.0 if key == "virial" else 1.0)
        return array.reshape(3, 3, order="F")
    return array
