"""Section [[targets]]: what is learned besides energies: dipoles, polarisabilities, any other key of the data."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from ..data.target_labels import UNITS, Origin, known_target
from ..data.targets import FITTED, Target
from ..descriptors.logarithmic_basis import PARAMETERS
from ..keys.base import Settings
from ..keys.quantities import PURE, Angstrom, Count, Unit
from .baseline import BaselineSettings

Place = Annotated[float, Unit("A")]
PSEUDOVECTORS = {"magmom", "magmoms", "magnetic_dipole", "magnetic_moment", "angular_momentum", "torque"}


class CovariantTermSettings(Settings):
    """A term of a target: a density within a cutoff, and a polynomial kernel times the covariant product of two densities."""

    n_max: Annotated[int, Field(ge=1, le=32), PURE] = Field(4, description="Number of radial functions.")
    l_max: Annotated[int, Field(ge=0, le=8), PURE] = Field(3, description="Highest angular degree, inclusive.")
    cutoff: Angstrom = Field(4.5, description="Radius beyond which neighbours are ignored.")
    cutoff_width: Angstrom | None = Field(
        None,
        description="Width of the smooth step to zero that ends at the cutoff; when left out the cutoff, or half of it with the "
        "functions of gap.",
        examples=[2.0],
    )
    radial_basis: Literal["gap", "logarithmic"] = Field(
        "logarithmic",
        description='Radial functions: "logarithmic" are sharp in proportion to the distance, which describes bonds and what reaches '
        'far in one term, "gap" equally sharp everywhere; "gap" when left out beside an atom_sigma.',
    )
    atom_sigma: Angstrom = Field(0.6, description="Standard deviation of the Gaussian that stands for an atom (gap).")
    angular_width: Annotated[PositiveFloat, Unit("rad")] = Field(
        0.55, description="Standard deviation of the angle by which an atom is smeared (logarithmic)."
    )
    decay: Annotated[float, Field(ge=0, le=8), PURE] = Field(
        0.7, description="Power of the distance by which the weight of an atom decays (logarithmic)."
    )
    own_weight: Annotated[PositiveFloat, PURE] = Field(
        6.0,
        description="Weight of the central atom beside its neighbours; a large one makes features nearly linear in the neighbours "
        "(logarithmic).",
    )
    zeta: Annotated[int, Field(ge=1, le=8), PURE] = Field(
        2, description="Exponent of the kernel; with 3 and more it uses fewer directions of the invariants."
    )
    n_invariants: Count = Field(32, description="Largest number of leading directions of the invariants of every element.")
    n_covariants: Count = Field(64, description="Largest number of leading directions of the covariants of every element.")
    n_channels: Count | None = Field(
        None,
        description="Number of random mixtures of elements and radial functions, each coupled with itself only, in place of all "
        "pairs of elements and radial functions.",
        examples=[64],
    )

    @property
    def step(self) -> float:
        """Width of the step at the cutoff, A."""
        return self.cutoff_width or self.cutoff / (1 if self.radial_basis == "logarithmic" else 2)

    @model_validator(mode="before")
    @classmethod
    def _atom_sigma_means_gap(cls, given: Any) -> Any:
        if isinstance(given, dict) and "atom_sigma" in given and "radial_basis" not in given:
            return {**given, "radial_basis": "gap"}
        return given

    @model_validator(mode="after")
    def _belongs_to_its_basis(self) -> Self:
        own = PARAMETERS[self.radial_basis]
        for key in (key for keys in PARAMETERS.values() for key in keys):
            if key not in own and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f'{key}: radial_basis = "{self.radial_basis}" has no such parameter; remove it')
        if self.radial_basis == "logarithmic" and self.n_max < 2:
            raise ValueError(f'n_max = {self.n_max}: radial_basis = "logarithmic" needs at least 2')
        return self

    @model_validator(mode="after")
    def _step_fits(self) -> Self:
        if self.cutoff_width is not None and self.cutoff_width > self.cutoff:
            raise ValueError(f"cutoff_width = {self.cutoff_width} A exceeds cutoff = {self.cutoff} A; reduce cutoff_width")
        return self


class TargetSettings(Settings):
    """A quantity that is learned from labels of its own."""

    name: str = Field(
        description='What is learned: "dipole", "polarizability", "dielectric" (relative permittivity), or any key of info or '
        "arrays of the structures.",
        examples=["dipole"],
    )
    key: str | None = Field(
        None, description="Key of the labels in the structures, where it is not the name.", examples=["REF_dipole"]
    )
    rank: Literal[0, 1, 2] | None = Field(
        None,
        description="Number (0), vector (1) or symmetric matrix (2). Known for dipole, polarizability and dielectric.",
        examples=[1],
    )
    per_atom: bool = Field(False, description="Whether every atom has a value of its own, instead of the whole structure.")
    per_volume: bool = Field(
        False,
        description="Whether it is a property of a material, so that its product with the volume of the cell adds up over the atoms; "
        "dielectric is, always.",
    )
    unit: str | None = Field(
        None,
        description='Unit of the labels: of dipoles "e*A" (also when left out), "debye" or "e*bohr"; of polarisabilities "A^3", '
        '"bohr^3" or "e^2*A^2/eV"; of others any word, "" for a pure number.',
        examples=["e*A"],
    )
    noise: Annotated[PositiveFloat, Unit("of the labels")] | None = Field(
        None, description="Standard deviation of the labels; found from the data when left out.", examples=[0.001]
    )
    origin: Literal["center_of_mass", "center_of_charge"] | tuple[Place, Place, Place] | None = Field(
        None,
        description="Point to which dipoles of charged systems refer: a place, the centre of mass or that of the nuclear charges.",
        examples=["center_of_mass"],
    )
    charge: Annotated[float, Unit("e")] | None = Field(
        None, description="Charge of all structures, where info or initial charges do not have it.", examples=[1.0]
    )
    baseline: BaselineSettings | None = Field(
        None,
        description="Calculator that gives the target, in the unit of the labels, with the keys of [baseline]; what is learned "
        "contains a multiple of it.",
        examples=[{"calculator": "tblite.ase.TBLite", "parameters": {"method": "GFN2-xTB"}}],
    )
    terms: tuple[CovariantTermSettings, ...] = Field(
        (), description="Terms of the kernel; two of different reach when left out."
    )

    @property
    def target(self) -> Target:
        """What is learned."""
        known = known_target(self.name)
        rank = self.rank if self.rank is not None else known.rank if known else 0
        unit = known.unit if known else self.unit or ""
        per_volume = self.per_volume or (known is not None and known.per_volume)
        return Target(self.name, rank, self.per_atom, unit, per_volume=per_volume)

    @property
    def label_key(self) -> str:
        """Key of the labels."""
        return self.key or self.name

    @property
    def label_unit(self) -> str:
        """Unit of the labels in the data."""
        known = known_target(self.name)
        return self.unit if self.unit is not None else known.unit if known else ""

    @property
    def place(self) -> Origin:
        """Point to which dipoles refer, and the charge of the systems."""
        return Origin(self.origin, self.charge)

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        known = known_target(self.name)
        if self.name in (*FITTED, "stress", "free_energy", "energies"):
            raise ValueError(f"name = {self.name!r}: is learned by the potential itself; remove this entry")
        if self.name in PSEUDOVECTORS:
            raise ValueError(f"name = {self.name!r}: a pseudovector, which inversion leaves as it is; targets are true tensors only")
        if known and self.rank not in (None, known.rank):
            raise ValueError(f"rank = {self.rank}: a {self.name} has rank {known.rank}; leave rank out")
        if not known and self.rank is None:
            raise ValueError(f"rank: missing; say whether {self.name} is a number (0), a vector (1) or a symmetric matrix (2)")
        if self.per_volume and self.per_atom:
            raise ValueError("per_volume: a value of an atom is not a property of a material; remove per_volume or per_atom")
        if self.unit is None and self.name not in ("dipole", "dielectric"):
            words = ", ".join(UNITS[self.name]) if self.name in UNITS else 'any word, "" for a pure number'
            raise ValueError(f"unit: missing for {self.name}; choose from {words}")
        if self.unit is not None and self.name in UNITS and self.unit not in UNITS[self.name]:
            raise ValueError(f"unit = {self.unit!r}: of a {self.name} must be one of {', '.join(UNITS[self.name])}")
        if self.baseline is not None and self.per_atom:
            raise ValueError("baseline: is for targets of whole structures; remove it, or per_atom")
        if self.origin is not None and (self.target.rank != 1 or self.per_atom):
            raise ValueError("origin: only dipoles of whole structures depend on an origin; remove it")
        return self


class TargetsSettings(Settings):
    """What is learned besides energies."""

    targets: tuple[TargetSettings, ...] = Field((), description="Quantities learned besides energies, forces and stresses.")

    @model_validator(mode="after")
    def _targets_differ(self) -> Self:
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"targets: {twice[0]!r} occurs twice; give it once")
        return self
