"""Distributions of angles; part of core.pyx. Created by mlpot/descriptors/mbtr.py."""


cdef class AngleHistograms:
    """Tables of distributions of angles in the layout of the core; see core/angle_histograms.h."""

    cdef mlpot_angle_histograms t
    cdef object owners

    def __init__(
        self,
        *,
        const int32_t[::1] group,  # IN (n_species)
        int n_groups,
        double cutoff,
        CurveTable curves,
        const double[:, ::1] weights,  # IN (n_species, n_sets)
        double decay,
        int at_neighbours,
        double per_step,
        int n_bins,
        const double[:, :, ::1] table,  # IN (n_knots, 3, n_columns), columns a multiple of CHANNELS
        const int32_t[:, ::1] bands,  # IN (n_knots, 2)
    ):
        cdef double[::1] memory = aligned_copy(np.asarray(table).ravel())
        self.owners = (group, curves, weights, memory, bands)
        self.t.shell = shell_of(group, n_groups, cutoff, curves)
        self.t.n_sets, self.t.weights = weights.shape[1], matrix_start(weights)
        self.t.decay, self.t.at_neighbours, self.t.per_step = decay, at_neighbours, per_step
        self.t.n_knots, self.t.n_bins, self.t.n_columns = table.shape[0], n_bins, table.shape[2]
        self.t.table, self.t.bands = vector_start(memory), matrix_start(bands)

    @property
    def n_values(self):
        return mlpot_n_histograms(&self.t) * self.t.n_bins

    def tables(self):
        """Sections of a model file."""
        group, curves, weights, memory, bands = self.owners
        sizes = [self.t.n_sets, self.t.at_neighbours, self.t.n_knots, self.t.n_bins, self.t.n_columns]
        found = {"kind": np.array([MLPOT_HISTOGRAMS]), "sizes": np.array(sizes),
                 "reals": np.array([self.t.decay, self.t.per_step])}
        return found | shell_tables(&self.t.shell, group, curves) | {
            "weights": np.asarray(weights), "table": np.asarray(memory), "bands": np.asarray(bands)}

    def compute(self, Neighbourhood near, int n_threads):
        """Histograms (n_atoms, n_histograms * n_bins)."""
        cdef double[:, ::1] out = np.empty((near.n_atoms, mlpot_n_histograms(&self.t) * self.t.n_bins))
        cdef int failed
        with nogil:
            failed = mlpot_angle_histograms_of(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(out))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def add_vjp(
        self,
        Neighbourhood near,
        const double[:, ::1] cotangent,  # IN (n_atoms, n_histograms * n_bins)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
    ):
        """Pullback of a cotangent of `compute`."""
        cdef int failed
        with nogil:
            failed = mlpot_angle_histograms_vjp(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(cotangent),
                                                matrix_start(pair_gradients))
        if failed:
            raise MemoryError
