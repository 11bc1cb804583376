"""Labels of CP2K: PBE, Goedecker pseudopotentials, MOLOPT basis sets; ASE talks to its shell. See README.md in this folder."""

from pathlib import Path

from ase.calculators.cp2k import CP2K
from ase.units import Rydberg

INPUT = """
&FORCE_EVAL
  &DFT
    &MGRID
      REL_CUTOFF 60
    &END MGRID
    &SCF
      EPS_SCF 1.0E-6
      &OT
        MINIMIZER DIIS
      &END OT
      &OUTER_SCF
        MAX_SCF 10
      &END OUTER_SCF
    &END SCF
  &END DFT
&END FORCE_EVAL
"""
"""For systems with a gap; metals want diagonalisation, smearing and k points in place of OT."""


class ConvergedCP2K(CP2K):
    """ASE's calculator, which goes on where CP2K only warns that its electrons have not converged."""

    def calculate(self, *args, **kwargs):
        """As ASE's."""
        super().calculate(*args, **kwargs)
        if "SCF run NOT converged" in Path(f"{self.label}.out").read_text():
            self.close()
            raise RuntimeError("CP2K: the electrons did not converge in max_scf steps")


def make(command: str = "cp2k.psmp -s", **changes) -> CP2K:
    """A calculator for one label; everything that `CP2K` takes may be changed."""
    settings = dict(
        xc="PBE", basis_set="DZVP-MOLOPT-SR-GTH", basis_set_file="BASIS_MOLOPT", potential_file="POTENTIAL",
        pseudo_potential="GTH-PBE", cutoff=800 * Rydberg, max_scf=30, inp=INPUT,
    )  # fmt: skip
    return ConvergedCP2K(command=command, **{**settings, **changes})
