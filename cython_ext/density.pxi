"""Density expansion, power spectrum and sparse-kernel energies; part of core.pyx. mlpot/descriptors/density.py checks the arguments."""


cdef class PairView:
    """A neighbour list in the layout of the core; keeps the arrays alive."""

    cdef mlpot_pairs view
    cdef readonly int64_t n_atoms
    cdef object owners

    def __init__(
        self,
        const int32_t[::1] species,  # IN (n_atoms) index into the density's species
        const int32_t[::1] j,  # IN (n_pairs)
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] distances,  # IN (n_pairs) A
    ):
        self.owners = (species, j, offsets, vectors, distances)
        self.n_atoms = species.shape[0]
        self.view = pairs_of(species, j, offsets, vectors, distances)


cdef class Density:
    """Tables of one density descriptor in the layout of the core."""

    cdef mlpot_density d
    cdef object owners

    def __init__(
        self,
        *,
        const int32_t[::1] group,  # IN (n_species) block of channels that a neighbour's species fills
        const int32_t[::1] first,  # IN (n_groups) first channel of a block
        const int32_t[::1] width,  # IN (n_groups) channels in a block
        int n_channels,
        double cutoff,
        tuple grid,  # first knot and spacing of the tables in A, and the knot that is stored twice
        const double[:, :, :, ::1] table,  # IN (n_knots, 3, l_max + 1, n_radial)
        const double[:, :, ::1] mixing,  # IN (n_species, n_radial, n_channels) or None
        const double[:, ::1] self_coefficients,  # IN (n_species, n_channels)
        int l_max,
        const int32_t[::1] degree,  # IN (n_spectrum)
        const int32_t[::1] channel_a,  # IN (n_spectrum)
        const int32_t[::1] channel_b,  # IN (n_spectrum)
        const double[::1] coupling,  # IN (n_spectrum)
        double constant,
        ContractionTables contractions=None,
    ):
        cdef double[::1] norms = np.empty((l_max + 1) * (l_max + 2) // 2)
        cdef double[::1] knots = aligned_copy(np.asarray(table).ravel())
        cdef double[::1] parts = None if mixing is None else aligned_copy(np.asarray(mixing).ravel())
        mlpot_harmonics_norms(l_max, vector_start(norms))
        self.owners = (group, first, width, knots, parts, self_coefficients,
                       degree, channel_a, channel_b, coupling, norms, contractions, grid)
        self.d.n_species = group.shape[0]
        self.d.l_max = l_max
        self.d.n_channels = n_channels
        self.d.n_groups = first.shape[0]
        self.d.group = vector_start(group)
        self.d.first = vector_start(first)
        self.d.width = vector_start(width)
        self.d.cutoff = cutoff
        self.d.grid = grid_of(grid, table.shape[0])
        self.d.n_radial = table.shape[3]
        self.d.table = vector_start(knots)
        self.d.mixing = NULL if mixing is None else vector_start(parts)
        self.d.self = matrix_start(self_coefficients)
        self.d.contractions = NULL if contractions is None else &contractions.t
        self.d.n_spectrum = degree.shape[0]
        self.d.degree = vector_start(degree)
        self.d.channel_a = vector_start(channel_a)
        self.d.channel_b = vector_start(channel_b)
        self.d.coupling = vector_start(coupling)
        self.d.constant = constant
        self.d.harmonics = vector_start(norms)

    @property
    def n_features(self):
        return mlpot_n_features(&self.d)

    @property
    def l_max(self):
        return self.d.l_max

    @property
    def n_channels(self):
        return self.d.n_channels

    @property
    def first_channels(self):
        """First channel (n_groups) of every block."""
        return np.asarray(self.owners[1])

    @property
    def spectrum(self):
        """Degree, both channels and coupling (n_spectrum) of every entry of the power spectrum."""
        return tuple(np.asarray(array) for array in self.owners[6:10])

    @property
    def contractions(self):
        """Tables of the features that come before the power spectrum, or None."""
        return self.owners[11]

    def tables(self):
        """Sections of a model file."""
        names = ("group", "first", "width", "table", "mixing", "self", "degree", "a", "b", "coupling")
        start, step, kink = self.owners[12]
        counts = [
            self.d.l_max, self.d.n_channels, self.d.n_groups, self.d.n_radial, self.d.grid.n_intervals + 2, kink,
            self.d.n_spectrum, self.owners[4] is not None, self.owners[11] is not None,
        ]
        found = {
            "d.sizes": np.array(counts, np.int32),
            "d.reals": np.array([self.d.cutoff, start, step, self.d.constant]),
        }
        found |= {f"d.{name}": np.asarray(array) for name, array in zip(names, self.owners[:10]) if array is not None}
        return found | ({} if self.owners[11] is None else self.owners[11].tables())

    def expand(self, PairView pairs, const int32_t[::1] centres):
        """Expansion coefficients (n_centres, n_harmonics, n_channels), channels padded."""
        cdef double[:, :, ::1] c = np.empty((centres.shape[0], mlpot_n_harmonics(&self.d), self.d.n_channels))
        if centres.shape[0] and mlpot_expand(&self.d, &pairs.view, pairs.n_atoms, centres.shape[0],
                                             vector_start(centres), block_start(c)):
            raise MemoryError
        return np.asarray(c)

    def features(self, PairView pairs, const int32_t[::1] centres, int n_threads):
        """Normalised features (n_centres, n_features)."""
        cdef int failed
        cdef double[:, ::1] out = np.zeros((centres.shape[0], self.n_features))
        if not centres.shape[0]:
            return np.asarray(out)
        with nogil:
            failed = mlpot_features(&self.d, &pairs.view, pairs.n_atoms, centres.shape[0], vector_start(centres),
                                    n_threads, matrix_start(out))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def features_vjp(
        self,
        PairView pairs,
        const int32_t[::1] centres,
        const double[:, ::1] cotangent,  # IN (n_centres, n_features)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
    ):
        """Features, as of `features`, and their pullback."""
        cdef int failed
        cdef double[:, ::1] out = np.zeros((centres.shape[0], self.n_features))
        if not centres.shape[0]:
            return np.asarray(out)
        with nogil:
            failed = mlpot_features_vjp(&self.d, &pairs.view, pairs.n_atoms, centres.shape[0], vector_start(centres),
                                        matrix_start(cotangent), matrix_start(out), matrix_start(pair_gradients))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def local_energies(
        self,
        PairView pairs,
        const int32_t[::1] centres,
        Points points,
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
    ):
        """Energies of centres of one species, and their pair gradients."""
        cdef mlpot_kernel_model model
        cdef mlpot_results results
        cdef int failed
        if not centres.shape[0]:
            return
        memset(&model, 0, sizeof(model))
        memset(&results, 0, sizeof(results))
        model.energy = model.known = points.p
        results.energies, results.pair_gradients = vector_start(energies), matrix_start(pair_gradients)
        with nogil:
            failed = mlpot_local_energies(&self.d, &pairs.view, &model, pairs.n_atoms, centres.shape[0],
                                          vector_start(centres), n_threads, &results)
        if failed:
            raise MemoryError

    def design_rows(
        self,
        PairView pairs,
        const int32_t[::1] centres,
        SparsePoints sparse,
        double[:] energy,  # OUT (n_sparse), added to
        double[:, :] forces,  # OUT (3 n_atoms, n_sparse) or None, added to
        double[:, :] virial,  # OUT (9, n_sparse) or None, added to
    ):
        """Covariances of a structure's energy, forces and virial with sparse points of one species."""
        cdef double *energy_row = &energy[0] if energy.shape[0] else NULL
        cdef double *force_rows = NULL
        cdef double *virial_rows = NULL
        cdef int64_t stride = 0
        cdef int failed
        if not centres.shape[0]:
            return
        if forces is not None:
            force_rows, stride = part_start(forces), forces.strides[0] // sizeof(double)
        if virial is not None:
            virial_rows, stride = part_start(virial), virial.strides[0] // sizeof(double)
        with nogil:
            failed = mlpot_design_rows(&self.d, &pairs.view, &sparse.p, pairs.n_atoms, centres.shape[0],
                                       vector_start(centres), energy_row, force_rows, virial_rows, stride)
        if failed:
            raise MemoryError
