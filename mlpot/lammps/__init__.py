"""mlpot in LAMMPS: the pair style as a plugin, and simulations of LAMMPS that learn while they run."""
