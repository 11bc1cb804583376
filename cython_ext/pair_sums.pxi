"""Two-body sums from tables; part of core.pyx. They are created by mlpot/terms/pair_compiled.py."""

LANES = MLPOT_CHANNELS


def add_member_gradients(
    const int32_t[:, ::1] kind,  # IN (n_species, n_species) -1: no potential
    double cutoff,
    const float[:, :, ::1] along,  # IN (n_kinds, n_knots + 1, MLPOT_MEMBERS) u'(r) / (2 r), eV/A^2; the last knot twice
    const int32_t[::1] species,  # IN (n_atoms)
    const int32_t[::1] j,  # IN (n_pairs)
    const int64_t[::1] offsets,  # IN (n_atoms + 1)
    const double[:, ::1] vectors,  # IN (n_pairs, 3) A
    const double[::1] distances,  # IN (n_pairs) A
    float[:, :, ::1] pair_gradients,  # OUT (n_pairs, 3, MLPOT_MEMBERS), added to
    int n_threads,
):
    """Pair gradients of an ensemble of pair potentials."""
    if not j.shape[0] or not along.shape[0]:
        return
    if along.shape[2] != MLPOT_MEMBERS or pair_gradients.shape[2] != MLPOT_MEMBERS:
        raise ValueError("an ensemble has MLPOT_MEMBERS members")
    cdef mlpot_pairs pairs = pairs_of(species, j, offsets, vectors, distances)
    cdef mlpot_pair_members m
    m.n_species = kind.shape[0]
    m.n_knots = along.shape[1] - 1
    m.cutoff = cutoff
    m.kind = matrix_start(kind)
    m.along = block_start(along)
    with nogil:
        mlpot_pair_member_gradients(&m, &pairs, species.shape[0], n_threads, block_start(pair_gradients))


cdef class PairSums:
    """Tables of one two-body term in the layout of the core. A grid is (start, step, kink)."""

    cdef mlpot_pair_term term
    cdef object owners

    def __init__(
        self,
        *,
        double cutoff,
        const int32_t[:, ::1] kind,  # IN (n_species, n_species) -1: no table
        tuple potential_grid,
        const double[:, :, ::1] potential,  # IN (n_kinds, n_knots, 3)
        tuple instance_grid,
        const double[:, :, ::1] instance,  # IN (n_kinds, n_knots, 3) or None
        tuple feature_grid,
        const double[:, :, ::1] features,  # IN (n_knots, 3, rank)
        const double[::1] variance,  # IN (n_kinds) eV^2
        const int32_t[::1] first,  # IN (n_kinds + 1)
        const int64_t[::1] map_of,  # IN (n_kinds)
        const double[::1] maps,  # IN (rank, padded columns) of each kind, one after the other
        double cutoff_width,
        const double[:, ::1] contact,  # IN (n_kinds, 4) or None
    ):
        cdef const double[::1] knots = aligned_copy(np.asarray(features).ravel())
        cdef const double[::1] rows = aligned_copy(maps)
        self.owners = (kind, potential, instance, knots, variance, first, map_of, rows, contact,
                       potential_grid, instance_grid, feature_grid)
        self.term.n_species = kind.shape[0]
        self.term.n_kinds = potential.shape[0]
        self.term.cutoff = cutoff
        self.term.kind = matrix_start(kind)
        self.term.potential_grid = grid_of(potential_grid, potential.shape[1])
        self.term.potential = block_start(potential)
        self.term.instance = NULL
        if instance is not None:
            self.term.instance_grid = grid_of(instance_grid, instance.shape[1])
            self.term.instance = block_start(instance)
        self.term.rank = features.shape[2]
        self.term.feature_grid = grid_of(feature_grid, features.shape[0])
        self.term.features = vector_start(knots)
        self.term.variance = vector_start(variance)
        self.term.n_sparse = first[first.shape[0] - 1]
        self.term.first = vector_start(first)
        self.term.map_of = vector_start(map_of)
        self.term.maps = vector_start(rows)
        self.term.cutoff_width = cutoff_width
        self.term.contact = NULL
        if contact is not None:
            self.term.contact = matrix_start(contact)

    def tables(self):
        """Sections of a model file."""
        names = ("kind", "potential", "instance", "features", "variance", "first", None, "maps", "contact")
        grids = [(0.0, 1.0, 0) if grid is None else grid for grid in self.owners[9:]]
        knots = [self.term.potential_grid.n_intervals + 2, 0, self.term.feature_grid.n_intervals + 2]
        if self.term.instance != NULL:
            knots[1] = self.term.instance_grid.n_intervals + 2
        counts = [self.term.n_kinds]
        for n_knots, grid in zip(knots, grids):
            counts += [n_knots, grid[2]]
        counts += [self.term.rank, self.term.contact != NULL, self.term.n_sparse]
        reals = [self.term.cutoff, self.term.cutoff_width, *(number for grid in grids for number in grid[:2])]
        found = {"sizes": np.array(counts, np.int32), "reals": np.array(reals)}
        return found | {name: np.asarray(a) for name, a in zip(names, self.owners) if name and a is not None}

    def add(
        self,
        const int32_t[::1] species,  # IN (n_atoms) index into the term's species
        const int32_t[::1] j,  # IN (n_pairs)
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] distances,  # IN (n_pairs) A
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        double[:, :] covariances,  # OUT (n_atoms, n_sparse) or None, overwritten; rows are contiguous
        double[::1] variances,  # OUT (n_atoms) or None, added to
        int n_threads,
    ):
        """Energies and gradients of all atoms; on request covariances and variances."""
        cdef mlpot_pairs pairs = pairs_of(species, j, offsets, vectors, distances)
        cdef int64_t n_atoms = species.shape[0], stride = 0
        cdef double *rows = NULL
        cdef double *spread = NULL
        cdef double *gradients = matrix_start(pair_gradients)
        cdef int failed
        if covariances is not None:
            rows, stride = part_start(covariances), covariances.strides[0] // sizeof(double)
        if variances is not None:
            spread = vector_start(variances)
        with nogil:
            failed = mlpot_pair_sums(&self.term, &pairs, n_atoms, n_threads, vector_start(energies), gradients, rows,
                                     stride, spread)
        if failed:
            raise MemoryError
