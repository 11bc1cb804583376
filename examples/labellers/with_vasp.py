"""Labels of VASP: PBE. ASE finds POTCAR files in $VASP_PP_PATH/potpaw_PBE; see README.md in this folder."""

from ase.calculators.vasp import Vasp


class ConvergedVasp(Vasp):
    """ASE's calculator, which gives energies and forces of electrons that have not converged as well."""

    def calculate(self, *args, **kwargs):
        """As ASE's."""
        super().calculate(*args, **kwargs)
        if not self.converged:
            raise RuntimeError("VASP: the electrons did not converge in NELM steps")


def make(command: str = "vasp_std", **changes) -> Vasp:
    """A calculator for one label; everything that `Vasp` takes may be changed."""
    settings = dict(
        xc="PBE", encut=520, ediff=1e-6, kspacing=0.25, ismear=0, sigma=0.05, nelm=200, lreal=False, lwave=False,
        lcharg=False, symprec=1e-8, isym=0, addgrid=True, ibrion=-1, nsw=0, isif=2,
    )  # fmt: skip
    return ConvergedVasp(command=command, **{**settings, **changes})
