"""Evaluation of a model file as in a C program; part of core.pyx."""

import os


cdef class CoreModel:
    """A model loaded by the C library from a file of `export_core`, independent of Python.

    ValueError, with the error text of the C library, for an invalid file or structure.
    """

    cdef mlpot_model *model

    def __cinit__(self, path):
        cdef char error[512]
        cdef bytes name = os.fsencode(path)
        self.model = mlpot_load(name, error, sizeof(error))
        if self.model == NULL:
            raise ValueError(os.fsdecode(error))

    def __dealloc__(self):
        mlpot_free(self.model)

    @property
    def cutoff(self):
        """A."""
        return mlpot_cutoff(self.model)

    @property
    def species(self):
        """Atomic numbers."""
        return tuple(mlpot_species(self.model)[k] for k in range(mlpot_n_species(self.model)))

    def evaluate(
        self,
        const int32_t[::1] numbers,  # IN (n_atoms) atomic numbers, ghosts last
        const int64_t[::1] offsets,  # IN (n_centres + 1)
        const int32_t[::1] neighbours,  # IN (n_pairs)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        int n_threads=1,
        bint uncertainty=False,
    ):
        """Members of `mlpot_output` by name, and with the uncertainty also the members of `mlpot_uncertainty`."""
        cdef char error[512]
        cdef mlpot_output out
        cdef mlpot_uncertainty parts
        cdef int status
        cdef mlpot_input given = _input(numbers, offsets, neighbours, vectors, n_threads)
        n, n_atoms = given.n_centres, given.n_atoms
        cdef double[::1] energies = np.empty(n + 1)
        cdef double[:, ::1] forces = np.empty((n_atoms + 1, 3))
        cdef double[:, ::1] gradients = np.empty((vectors.shape[0] + 1, 3))
        cdef double[:, ::1] virials = np.empty((n + 1, 9))
        found = {"energies": energies[:n], "forces": forces[:n_atoms], "pair_gradients": gradients[:vectors.shape[0]],
                 "virials": virials[:n]}
        memset(&out, 0, sizeof(out))
        out.size, out.energies, out.forces, out.pair_gradients = sizeof(out), &energies[0], &forces[0, 0], &gradients[0, 0]
        out.virials = &virials[0, 0]
        if uncertainty:
            found |= self._parts(&parts, n, n_atoms)
            out.uncertainty = &parts
        with nogil:
            status = mlpot_evaluate(self.model, &given, &out, error, sizeof(error))
        if status:
            raise ValueError(os.fsdecode(error))
        found = {name: np.asarray(array) for name, array in found.items()}
        found["virial"] = np.array([out.virial[k] for k in range(9)]).reshape(3, 3)
        if uncertainty:
            found["member_virial"] = np.array([parts.member_virial[k] for k in range(9 * MLPOT_MEMBERS)])
        return found

    cdef dict _parts(self, mlpot_uncertainty *parts, Py_ssize_t n, Py_ssize_t n_atoms):
        cdef double[:, ::1] of_centres = np.empty((5, n + 1))
        cdef double[:, :, ::1] members = np.empty((n_atoms + 1, 3, MLPOT_MEMBERS))
        cdef double[::1] covariances = np.empty(max(mlpot_n_representatives(self.model), 0) + 1)
        memset(parts, 0, sizeof(mlpot_uncertainty))
        parts.size = sizeof(mlpot_uncertainty)
        parts.posterior, parts.unexplained, parts.novelty = &of_centres[0, 0], &of_centres[1, 0], &of_centres[2, 0]
        parts.strongest, parts.crowding = &of_centres[3, 0], &of_centres[4, 0]
        parts.member_forces, parts.covariances = &members[0, 0, 0], &covariances[0]
        names = ("posterior", "unexplained", "novelty", "strongest", "crowding")
        found = {name: row[:n] for name, row in zip(names, np.asarray(of_centres))}
        return found | {"member_forces": members[:n_atoms], "covariances": covariances[: len(covariances) - 1]}

    def deviations(
        self,
        const int32_t[::1] numbers,  # IN (n_centres)
        dict parts,  # from `evaluate`, with member_forces of ghosts added to their atoms
        bint of_forces=True,
    ):
        """energies_std (n_centres,), forces_std (n_centres, 3) and owed (n_centres,) by name."""
        cdef char error[512]
        cdef mlpot_uncertainty given
        cdef mlpot_input structure
        cdef double[::1] array
        n = numbers.shape[0]
        cdef double[::1] energies_std = np.zeros(n + 1)
        cdef double[::1] owed = np.zeros(n + 1)
        cdef double[:, ::1] forces_std = np.zeros((n + 1, 3))
        kept = {name: np.append(np.ravel(parts[name]), 0.0) for name in (
            "posterior", "unexplained", "strongest", "crowding", "member_forces")}
        memset(&given, 0, sizeof(given))
        memset(&structure, 0, sizeof(structure))
        given.size, structure.size, structure.n_centres, structure.n_atoms = sizeof(given), sizeof(structure), n, n
        structure.numbers = vector_start(numbers)
        array = kept["posterior"]
        given.posterior = &array[0]
        array = kept["unexplained"]
        given.unexplained = &array[0]
        array = kept["strongest"]
        given.strongest = &array[0]
        array = kept["crowding"]
        given.crowding = &array[0]
        array = kept["member_forces"]
        given.member_forces = &array[0]
        if mlpot_deviations(self.model, &structure, &given, &energies_std[0], &forces_std[0, 0] if of_forces else NULL,
                            &owed[0] if of_forces else NULL, error, sizeof(error)):
            raise ValueError(os.fsdecode(error))
        return {"energies_std": np.asarray(energies_std[:n]), "forces_std": np.asarray(forces_std[:n]),
                "owed": np.asarray(owed[:n])}

    def share_deviations(
        self,
        const int32_t[::1] numbers,  # IN (n_atoms)
        const int64_t[::1] offsets,  # IN (n_centres + 1)
        const int32_t[::1] neighbours,  # IN (n_pairs)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] owed,  # IN (n_atoms)
        double[:, ::1] forces_std,  # IN, OUT (n_centres, 3)
    ):
        """Raise standard deviations of forces to their shares."""
        cdef char error[512]
        cdef mlpot_input given = _input(numbers, offsets, neighbours, vectors, 1)
        if mlpot_share_deviations(self.model, &given, vector_start(owed), matrix_start(forces_std), error, sizeof(error)):
            raise ValueError(os.fsdecode(error))

    def total_deviations(
        self,
        int64_t n_atoms,
        const double[::1] covariances,  # IN (n_representatives)
        double unexplained,
        const double[::1] member_virial=None,  # IN (9 MLPOT_MEMBERS)
    ):
        """energy_std, and virial_std (3, 3) if the members' virial is given, else None."""
        cdef char error[512]
        cdef double energy_std
        cdef double[:, ::1] virial_std = np.zeros((3, 3))
        cdef bint whole = member_virial is not None
        if mlpot_total_deviations(self.model, n_atoms, vector_start(covariances), unexplained,
                                  &member_virial[0] if whole else NULL, &energy_std, &virial_std[0, 0] if whole else NULL,
                                  error, sizeof(error)):
            raise ValueError(os.fsdecode(error))
        return energy_std, np.asarray(virial_std) if whole else None


cdef mlpot_input _input(const int32_t[::1] numbers, const int64_t[::1] offsets, const int32_t[::1] neighbours,
                        const double[:, ::1] vectors, int n_threads) noexcept:
    cdef mlpot_input given
    memset(&given, 0, sizeof(given))
    given.size, given.n_centres, given.n_atoms = sizeof(given), offsets.shape[0] - 1, numbers.shape[0]
    given.numbers, given.offsets = vector_start(numbers), vector_start(offsets)
    given.neighbours, given.vectors = vector_start(neighbours), matrix_start(vectors)
    given.n_threads = n_threads
    return given
