"""Write docs/descriptors.md: every descriptor of mlpot by basis and body order, with the numbers of `mlpot criteria`.

python benchmarks/classify_descriptors.py            # about two minutes of processor time
"""

from pathlib import Path

from mlpot.analysis.criteria import Criteria, measure
from mlpot.analysis.criteria_page import number
from mlpot.analysis.probes import random_structures
from mlpot.analysis.sources import source_of_settings
from mlpot.analysis.subject import subject_of
from mlpot.settings.fit import ModelSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "descriptors.md"
ELEMENTS = (1, 6)
CUTOFF = 5.0
SOAP = {"type": "soap", "n_max": 8, "l_max": 6, "cutoff": CUTOFF}
MIXED = {**SOAP, "mix": "both", "n_channels": 12, "symmetric": True, "embedding": "periodic"}
ZOO = {
    "pair": (2, "Gaussians of the distance", {"type": "pair", "cutoff": CUTOFF}),
    "zernike (5)": (3, "Zernike polynomials, spherical harmonics", {"type": "zernike", "n_max": 5, "cutoff": CUTOFF}),
    "chebyshev (16, 4)": (3, "Chebyshev polynomials of distance and angle", {"type": "chebyshev", "cutoff": CUTOFF}),
    "acsf, AMP's": (
        3,
        "Gaussians of distances, powers of cosines",
        {"type": "acsf", "functions": "amp", "cutoff": CUTOFF},
    ),
    "acsf, auto, 64": (3, "the same, chosen on structures", {"type": "acsf", "cutoff": CUTOFF}),
    "mbtr": (3, "grids of smeared distances and angles", {"type": "mbtr", "cutoff": CUTOFF}),
    "soap": (3, "radial functions of GAP, spherical harmonics", SOAP),
    "soap, mixed, 12 channels": (3, "the same, sums of elements and radial functions", MIXED),
    "soap, balanced preset": (3, "the same, with a long taper", None),
    "bispectrum (8)": (4, "hyperspherical harmonics", {"type": "bispectrum", "two_j_max": 8, "cutoff": CUTOFF}),
    "soap, order 3": (4, "soap and invariants of three densities", {**SOAP, "order": 3}),
    "soap, order 4": (5, "soap and invariants of up to four densities", {**SOAP, "order": 4}),
}
HEADS = (
    "descriptor", "bodies", "basis", "features", "for 40 elements", "equal distances and angles differ by", "unnoticed displacements",
    "weakest displacement", "GFRE of SOAP-3", "GFRE from SOAP-3", "derivatives without jumps", "effective rank", "us/atom",
    "with pullback", "exponent in neighbours", "exponent in elements",
)  # fmt: skip
HEAD = f"""# Descriptors, by basis and body order

This page is written by `python benchmarks/classify_descriptors.py` with the measurements of `mlpot criteria` (see
[criteria](criteria.md) for their definitions): elements H and C, a cutoff of {CUTOFF:g} A, one thread, default keys where none are
named. Bodies counts the centre and the neighbours that one feature correlates; `angle_3b`, which only imported models have, is
not measured. Times are processor times on a machine that others use: compare them with each other.

"""
TAIL = """
How to read it:

- Pairs of environments with equal distances and angles have the same features up to three bodies, whatever the basis. Those of four
  bodies differ.
- Unnoticed displacements: directions, of 21 for 8 neighbours, in which no feature changes. Two-body features have many, a short
  list of three-body features has some.
- GFRE of SOAP-3: the part of SOAP with three densities that no linear map of the features gives; GFRE from SOAP-3: the part of the
  features that it does not contain.
- Derivatives without jumps: 1 means that the second derivative jumps at the cutoff (a cosine), so that forces have a kink there.
- The exponent in elements shows which features grow with pairs of elements, and which are mixed.
"""


def measured(name: str) -> Criteria:
    """All criteria of an entry of `ZOO`."""
    settings = ZOO[name][2]
    model = ModelSettings(preset="balanced", cutoff=CUTOFF) if settings is None else ModelSettings(terms=(settings,))

    def source(species):
        return source_of_settings(model, species, random_structures(species) if set(species) == set(ELEMENTS) else ())

    return measure(
        subject_of(source(ELEMENTS), name, source), before=lambda criterion: print(f"{name}: {criterion}", flush=True)
    )


def cells(name: str, found: Criteria) -> list[str]:
    """The row of a descriptor."""
    by_name = {row.name: row for row in found.rows}

    def value(row: str) -> str:
        return number(by_name[row].value) if row in by_name else "-"

    smooth = sum(by_name[row].passed is True for row in ("first derivative", "second derivative"))
    differ = by_name["equal distances and angles"].note.partition(";")[0].rpartition(" ")[2]
    bodies, basis, _ = ZOO[name]
    return [
        name, str(bodies), basis, value("number of features"), value("features for 40 elements"), differ,
        value("unnoticed displacements"), value("weakest displacement"), value("GFRE: SOAP-3 from these features"),
        value("GFRE: these features from SOAP-3"), str(smooth), value("effective rank"), value("features"),
        value("features and pullback"), value("exponent in neighbours"), value("exponent in elements"),
    ]  # fmt: skip


def main() -> None:
    rows = []
    for name in ZOO:
        rows.append(cells(name, measured(name)))
        print(" | ".join(rows[-1]), flush=True)
    lines = ["| " + " | ".join(row) + " |" for row in [HEADS, ["---"] * len(HEADS), *rows]]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n" + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
