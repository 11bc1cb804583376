"""Covariants of two densities and pullback of the expansion; part of core.pyx. mlpot/descriptors/covariants.py makes the tables."""


cdef class CovariantTables:
    """Couplings of pairs of channels to covariants of one degree, in the layout of the core."""

    cdef mlpot_covariants t
    cdef object owners

    def __init__(
        self,
        *,
        int l_max,
        int n_channels,
        int order,
        const int32_t[:, ::1] runs,  # IN (n_runs, 6)
        const int32_t[::1] couplings,  # IN (n_couplings + 1)
        const int32_t[:, ::1] entries,  # IN (n_entries, 3)
        const double[::1] values,  # IN (n_entries)
        const double[::1] scale,  # IN (n_features)
    ):
        self.owners = (runs, couplings, entries, values, scale)
        self.t.l_max, self.t.n_channels, self.t.order = l_max, n_channels, order
        self.t.n_features, self.t.n_runs = scale.shape[0], runs.shape[0]
        self.t.runs, self.t.entries = matrix_start(runs), matrix_start(entries)
        self.t.couplings, self.t.values, self.t.scale = vector_start(couplings), vector_start(values), vector_start(scale)

    @property
    def n_features(self):
        return self.t.n_features

    def compute(self, const double[:, :, ::1] c, int n_threads):
        """Covariants (n_centres, 2 order + 1, n_features) of coefficients (n_centres, n_harmonics, n_channels)."""
        cdef double[:, :, ::1] out = np.empty((c.shape[0], 2 * self.t.order + 1, self.t.n_features))
        if c.shape[0] and self.t.n_features:
            with nogil:
                mlpot_covariants_of(&self.t, c.shape[0], block_start(c), n_threads, block_start(out))
        return np.asarray(out)

    def vjp(
        self,
        const double[:, :, ::1] c,  # IN (n_centres, n_harmonics, n_channels)
        const double[:, :, ::1] cotangent,  # IN (n_centres, n_out, n_features), or (n_centres, 1, n_features) for all outputs
        int n_threads,
        double[:, :, ::1] dc,  # OUT (n_centres, n_out, n_harmonics * n_channels), added to
    ):
        """Pullback; output o sums over row o of the covariants, or, with order 0, over the only row."""
        cdef int n_out = dc.shape[1]
        cdef int is_shared = cotangent.shape[1] == 1
        if c.shape[0] and self.t.n_features:
            with nogil:
                mlpot_covariants_vjp(&self.t, c.shape[0], block_start(c), n_out, is_shared, block_start(cotangent), n_threads,
                                     block_start(dc))


def expand_vjp(
    Density density,
    PairView pairs,
    const int32_t[::1] centres,
    const double[:, :, ::1] dc,  # IN (n_centres, n_out, n_harmonics * n_channels)
    double[:, :, ::1] pair_gradients,  # OUT (n_out, n_pairs, 3), added to
    int n_threads,
):
    """Pullback of `Density.expand` for several outputs."""
    cdef int failed
    if not centres.shape[0] or not pair_gradients.shape[1]:
        return
    with nogil:
        failed = mlpot_expand_vjp(&density.d, &pairs.view, pairs.n_atoms, centres.shape[0], vector_start(centres), dc.shape[1],
                                  block_start(dc), n_threads, block_start(pair_gradients))
    if failed:
        raise MemoryError
