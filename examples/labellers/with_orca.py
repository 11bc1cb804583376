"""Labels of ORCA, for molecules: r2SCAN-3c. See README.md in this folder."""

from ase.calculators.orca import ORCA, OrcaProfile


def make(command: str = "orca", processes: int = 1, **changes) -> ORCA:
    """A calculator for one label. ORCA starts its processes itself: `command` is its full path when there are several."""
    settings = dict(
        charge=0, mult=1, orcasimpleinput="r2SCAN-3c TightSCF EnGrad", orcablocks=f"%pal nprocs {processes} end"
    )
    return ORCA(profile=OrcaProfile(command=command), **{**settings, **changes})
