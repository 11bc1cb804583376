"""Labels of GPAW: PBE, plane waves. See README.md in this folder."""

from ase.calculators.calculator import Calculator


def make(cutoff: float = 400.0, kpts: tuple = (4, 4, 4), width: float = 0.05, **changes) -> Calculator:
    """A calculator for one label, in this process; everything that `GPAW` takes may be changed."""
    from gpaw import GPAW, PW, FermiDirac  # not before a label is made: GPAW starts MPI

    settings = dict(
        mode=PW(cutoff), xc="PBE", kpts={"size": tuple(kpts), "gamma": True}, occupations=FermiDirac(width),
        convergence={"energy": 1e-6, "forces": 1e-3}, symmetry="off", txt="gpaw.txt",
    )  # fmt: skip
    return GPAW(**{**settings, **changes})
