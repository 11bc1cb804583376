"""Bispectrum on the three-sphere; part of core.pyx. Created by mlpot/descriptors/bispectrum.py."""


cdef class SphereBispectrum:
    """Tables of the bispectrum in the layout of the core; see core/bispectrum.h for their meaning."""

    cdef mlpot_bispectrum t
    cdef object owners

    def __init__(
        self,
        *,
        int two_j_max,
        int half_angle,
        double steepness,
        double start,
        const int32_t[::1] channel,  # IN (n_species)
        const double[::1] weights,  # IN (n_species)
        const double[:, ::1] cutoffs,  # IN (n_species, n_species)
        const double[:, ::1] self_weights,  # IN (n_species, n_channels)
        const double[::1] norms,  # IN (n_half)
        const double[::1] couplings,  # IN (n_couplings)
        const int32_t[::1] rows,  # IN ((two_j_max + 1)^2 (2 two_j_max + 1))
        const int32_t[:, ::1] blocks,  # IN (n_blocks, 4)
        const int32_t[::1] first_output,  # IN (n_blocks + 1)
        const int32_t[::1] n_valued,  # IN (n_blocks)
        const int32_t[::1] value,  # IN (n_features)
        const double[::1] scale,  # IN (n_features)
        const int32_t[::1] begin,  # IN (n_features + 1)
        const int32_t[::1] entry_block,  # IN (n_entries)
        const int32_t[::1] entry_t,  # IN (n_entries)
        const int32_t[::1] entry_channel,  # IN (n_entries)
        const double[::1] entry_factor,  # IN (n_entries)
    ):
        self.owners = (channel, weights, cutoffs, self_weights, norms, couplings, rows, blocks, first_output, n_valued, value, scale,
                       begin, entry_block, entry_t, entry_channel, entry_factor)
        self.t.n_species, self.t.n_channels = self_weights.shape[0], self_weights.shape[1]
        self.t.two_j_max, self.t.n_features, self.t.half_angle = two_j_max, scale.shape[0], half_angle
        self.t.steepness, self.t.start = steepness, start
        self.t.channel, self.t.weights = vector_start(channel), vector_start(weights)
        self.t.cutoffs, self.t.self = matrix_start(cutoffs), matrix_start(self_weights)
        self.t.norms, self.t.couplings, self.t.rows = vector_start(norms), vector_start(couplings), vector_start(rows)
        self.t.n_blocks, self.t.blocks = blocks.shape[0], matrix_start(blocks)
        self.t.first_output, self.t.n_valued = vector_start(first_output), vector_start(n_valued)
        self.t.value, self.t.scale, self.t.begin = vector_start(value), vector_start(scale), vector_start(begin)
        self.t.entry_block, self.t.entry_t = vector_start(entry_block), vector_start(entry_t)
        self.t.entry_channel, self.t.entry_factor = vector_start(entry_channel), vector_start(entry_factor)

    @property
    def n_values(self):
        return self.t.n_features

    def tables(self):
        """Sections of a model file."""
        names = ("channel", "weights", "cutoffs", "self", "norms", "couplings", "rows", "blocks", "first_output", "n_valued", "value",
                 "scale", "begin", "entry_block", "entry_t", "entry_channel", "entry_factor")
        sizes = [self.t.two_j_max, self.t.n_channels, self.t.n_features, self.t.half_angle, self.t.n_blocks, len(self.owners[5]),
                 len(self.owners[13])]
        found = {"kind": np.array([MLPOT_BISPECTRUM]), "sizes": np.array(sizes),
                 "reals": np.array([self.t.steepness, self.t.start])}
        return found | {name: np.asarray(array) for name, array in zip(names, self.owners)}

    def compute(self, Neighbourhood near, int n_threads):
        """Features (n_atoms, n_features)."""
        cdef double[:, ::1] out = np.empty((near.n_atoms, self.t.n_features))
        cdef int failed
        with nogil:
            failed = mlpot_bispectrum_of(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(out))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def add_vjp(
        self,
        Neighbourhood near,
        const double[:, ::1] cotangent,  # IN (n_atoms, n_features)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
    ):
        """Pullback of a cotangent of `compute`."""
        cdef int failed
        with nogil:
            failed = mlpot_bispectrum_vjp(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(cotangent),
                                          matrix_start(pair_gradients))
        if failed:
            raise MemoryError

    def fill_jacobian(
        self,
        Neighbourhood near,
        double[:, :, ::1] jacobian,  # OUT (n_pairs, 3, n_features), written where a pair is within the cutoff
        int n_threads,
    ):
        """Derivatives of all features."""
        cdef int failed
        with nogil:
            failed = mlpot_bispectrum_jacobian(&self.t, &near.pairs, near.n_atoms, n_threads, block_start(jacobian))
        if failed:
            raise MemoryError
