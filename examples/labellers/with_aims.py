"""Labels of FHI-aims: PBE, light species defaults. See README.md in this folder."""

from ase.calculators.aims import Aims, AimsProfile


def make(species_dir: str, command: str = "aims.x", **changes) -> Aims:
    """A calculator for one label; every keyword of FHI-aims may be changed. Of molecules: k_grid = [] takes it out."""
    settings = dict(
        xc="pbe", relativistic="atomic_zora scalar", k_grid=(4, 4, 4), sc_accuracy_rho=1e-5, sc_accuracy_forces=1e-4,
        sc_iter_limit=200, occupation_type="gaussian 0.05", compute_forces=True,
    )  # fmt: skip
    kept = {name: value for name, value in {**settings, **changes}.items() if value not in ([], ())}
    profile = AimsProfile(command=command, default_species_directory=species_dir)
    return Aims(profile=profile, **kept)
