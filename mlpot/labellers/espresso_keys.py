"""The keys of pw.x by namelist: the table of ASE, and the keys that it lacks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ase.io.espresso_namelist.keys import pw_keys

MORE = {
    "control": ["saverho"],
    "system": [
        "lda_plus_u", "lda_plus_u_kind", "u_projection_type", "hubbard_u", "hubbard_u_back", "hubbard_j", "hubbard_j0", "hubbard_v",
        "hubbard_parameters", "hubbard_alpha_back", "hub_pot_fix", "backall", "lback", "l1back", "reserv", "reserv_back", "ts_vdw",
    ],
}  # fmt: skip
"""Keys of pw.x 5 to 6.8, where Hubbard parameters are in a namelist, and a few others that the table lacks."""
KEYS = {section: {*names, *MORE.get(section, ())} for section, names in pw_keys.items()}
OF_SPECIES = {
    "starting_charge", "starting_magnetization", "hubbard_u", "hubbard_u_back", "hubbard_j", "hubbard_j0", "hubbard_alpha",
    "hubbard_alpha_back", "hubbard_beta", "backall", "lback", "l1back", "reserv", "reserv_back", "starting_ns_eigenvalue",
    "hubbard_occ", "angle1", "angle2", "london_c6", "london_rvdw",
}  # fmt: skip
"""Keys with an index for species: the last index, except for `hubbard_occ`, where it is the first."""
NOT_READ = ("ions", "cell", "fcp")
"""Namelists that pw.x ignores in the calculation of a single structure."""
INDEXED = re.compile(r"([a-z_0-9]+)\s*\(\s*(\d+(?:\s*,\s*\d+)*)\s*\)")


def section_of(key: str) -> str | None:
    """The namelist of a key, given in lower case without index; None if pw.x has no such key."""
    return next((section for section, names in KEYS.items() if key in names), None)


def split_key(key: str) -> tuple[str, tuple[int, ...]]:
    """Name and indices: "Hubbard_J(1,2)" is "hubbard_j", (1, 2)."""
    found = INDEXED.fullmatch(key.lower().strip())
    return (found[1], tuple(map(int, found[2].split(",")))) if found else (key.lower().strip(), ())


def hint(key: str, among: Iterable[str] | None = None) -> str:
    """Suggest the key that may have been meant."""
    known = sorted(among or {name for names in KEYS.values() for name in names})
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "pw.x has no such key"
