"""Evaluation of models as in a C program; part of core.pyx."""

import os

TYPES = {np.dtype(np.float64): MLPOT_DOUBLES, np.dtype(np.int32): MLPOT_INTEGERS, np.dtype(np.float32): MLPOT_FLOATS}
ALIGNMENT = 64
"""Bytes at whose multiples the tables of a model begin."""


cdef class CoreModel:
    """A model that the C library evaluates: from a file of `export_core`, or from the tables of one in memory.

    Tables are arrays by name, contiguous and of one of the `TYPES`; those that begin at a multiple of `ALIGNMENT` are not copied.
    ValueError, with the error text of the C library, for an invalid file, table or structure.
    """

    cdef mlpot_model *model
    cdef object owners

    def __cinit__(self, source):
        cdef char error[512]
        if isinstance(source, dict):
            self._take(source, error, sizeof(error))
        else:
            self.model = mlpot_load(os.fsencode(source), error, sizeof(error))
        if self.model == NULL:
            raise ValueError(os.fsdecode(error))

    cdef _take(self, dict tables, char *error, size_t error_size):
        cdef mlpot_table *records = <mlpot_table *>calloc(len(tables) + 1, sizeof(mlpot_table))
        cdef Py_ssize_t k
        cdef size_t address
        if records == NULL:
            raise MemoryError
        names = [name.encode() for name in tables]
        arrays = [aligned(array) for array in tables.values()]
        for k in range(len(names)):
            address = arrays[k].ctypes.data
            records[k].name, records[k].type, records[k].count = names[k], TYPES[arrays[k].dtype], arrays[k].size
            records[k].numbers = <const void *>address
        self.model = mlpot_load_tables(records, len(names), error, error_size)
        free(records)
        self.owners = arrays

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

    def predict(
        self,
        const int32_t[::1] numbers,  # IN (n_atoms) atomic numbers
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const int32_t[::1] neighbours,  # IN (n_pairs)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        double[::1] energies,  # OUT (n_atoms)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3)
        int n_threads,
        double[:, ::1] covariances=None,  # IN, OUT (n_atoms, n_representatives)
        double[:, ::1] explained=None,  # OUT (n_atoms, 2), added to
        double[::1] variances=None,  # OUT (n_atoms), added to
        float[:, :, ::1] member_gradients=None,  # OUT (n_pairs, 3, N_MEMBERS), added to
        double[:, :, ::1] member_forces=None,  # OUT (n_atoms, 3, N_MEMBERS), added to
        double[:, ::1] member_virial=None,  # OUT (9, N_MEMBERS), added to; together with the forces
    ):
        """Local energies and pair gradients, and the sums behind the uncertainty that are given, see `mlpot_sums`."""
        cdef char error[512]
        cdef double none = 0.0
        cdef mlpot_output out
        cdef mlpot_sums sums
        cdef int status
        cdef mlpot_input given = _input(numbers, offsets, neighbours, vectors, n_threads)
        memset(&out, 0, sizeof(out))
        memset(&sums, 0, sizeof(sums))
        out.size, sums.size = sizeof(out), sizeof(sums)
        out.energies = &energies[0] if energies.shape[0] else &none
        out.pair_gradients = matrix_start(pair_gradients)
        sums.covariances = NULL if covariances is None else matrix_start(covariances)
        sums.explained = NULL if explained is None else matrix_start(explained)
        sums.variances = NULL if variances is None else vector_start(variances)
        sums.member_gradients = NULL if member_gradients is None else block_start(member_gradients)
        if member_forces is not None:
            sums.member_forces, sums.member_virial = block_start(member_forces), matrix_start(member_virial)
        if not (covariances is None and variances is None and member_gradients is None and member_forces is None):
            out.sums = &sums
        with nogil:
            status = mlpot_evaluate(self.model, &given, &out, error, sizeof(error))
        if status == MLPOT_OUT_OF_MEMORY:
            raise MemoryError(os.fsdecode(error))
        if status:
            raise ValueError(os.fsdecode(error))

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


def aligned(array):
    """The array, or a copy (n,) of its numbers that begins at a multiple of ALIGNMENT bytes."""
    if not array.ctypes.data % ALIGNMENT and array.size:
        return array
    copy = aligned_zeros(max(array.size, 1), array.dtype)[: array.size]
    copy[:] = array.ravel()
    return copy
