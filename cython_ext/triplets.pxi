"""Three-body sums; part of core.pyx. They are created by mlpot/terms/three_body.py."""


cdef class Triplets:
    """One three-body term in the layout of the core."""

    cdef mlpot_triplets t
    cdef mlpot_triplet_variance v
    cdef object owners

    def __init__(
        self,
        *,
        tuple kinds,  # species indices of the centre and its two neighbours
        double cutoff,
        double cutoff_width,
        const double[::1] length_scales,  # IN (3)
        const double[:, ::1] points,  # IN (n, 3) sparse coordinates
        const double[::1] strengths,  # IN (n) eV
        const double[:, :, ::1] table=None,  # IN B-spline coefficients, two more than used in the last direction
        const double[::1] start=None,  # IN (3) first knots of the valid range
        const double[::1] step=None,  # IN (3)
        double nearest=0.0,
        const double[::1] covariances=None,  # IN (n) eV^2, of G with each sparse point at that point
        const double[:, ::1] spread=None,  # IN lower triangle (n, n)
        double prior=0.0,
    ):
        cdef const double[:, ::1] scaled = np.ascontiguousarray(np.asarray(points) / np.asarray(length_scales))
        cdef double[::1] packed = None
        cdef int a
        self.t.centre, self.t.first, self.t.second = kinds
        self.t.cutoff, self.t.cutoff_width = cutoff, cutoff_width
        self.t.n_points = points.shape[0]
        self.t.points, self.t.strengths = matrix_start(scaled), vector_start(strengths)
        self.t.table, self.t.nearest = NULL, nearest
        for a in range(3):
            self.t.per_scale[a] = 1 / length_scales[a]
        if table is not None:
            self.t.table = block_start(table)
            for a in range(3):
                self.t.size[a] = table.shape[a] - (2 if a == 2 else 0)
                self.t.start[a], self.t.per_step[a] = start[a], 1 / step[a]
            self.t.stride[0], self.t.stride[1] = table.shape[1] * table.shape[2], table.shape[2]
        if spread is not None:
            packed = packed_lower(spread)
            self.v.strengths, self.v.spread, self.v.prior = vector_start(covariances), vector_start(packed), prior
        self.owners = (scaled, strengths, table, covariances, packed, length_scales, start, step, spread)

    def tables(self):
        """Sections of a model file."""
        points, strengths, table, covariances, _, length_scales, start, step, spread = self.owners
        places = [np.zeros(3), np.ones(3)] if table is None else [start, step]
        reals = [[self.t.cutoff, self.t.cutoff_width], length_scales, *places, [self.t.nearest, self.v.prior]]
        sizes = [0, 0, 0] if table is None else list(self.t.size)
        counts = [self.t.centre, self.t.first, self.t.second, self.t.n_points, *sizes, spread is not None]
        arrays = {"points": points, "strengths": strengths, "table": table, "covariances": covariances, "spread": spread}
        found = {"sizes": np.array(counts, np.int32), "reals": np.concatenate(reals)}
        return found | {name: np.asarray(array) for name, array in arrays.items() if array is not None}

    def add(
        self,
        const int32_t[::1] species,  # IN (n_atoms) index into the term's species
        const int32_t[::1] j,  # IN (n_pairs)
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] distances,  # IN (n_pairs) A
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        double[::1] variances,  # OUT (n_atoms) or None, added to
        int n_threads,
    ):
        """Energies and gradients of all atoms; on request variances."""
        cdef mlpot_pairs pairs = pairs_of(species, j, offsets, vectors, distances)
        cdef int64_t n_atoms = species.shape[0]
        cdef double *spread = NULL if variances is None else vector_start(variances)
        cdef int failed
        if not pair_gradients.shape[0]:
            return
        with nogil:
            failed = mlpot_triplet_sums(&self.t, &self.v, &pairs, n_atoms, n_threads, vector_start(energies),
                                        matrix_start(pair_gradients), spread)
        if failed:
            raise MemoryError
