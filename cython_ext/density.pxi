"""Density expansion, power spectrum and sparse-kernel energies; part of core.pyx. mlpot/descriptors/density.py checks what comes here."""


cdef class PairView:
    """What the core reads of a neighbour list; keeps the arrays alive."""

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


cdef class Points:
    """Environments with which those of a structure are compared, in the order in which the products read them."""

    cdef mlpot_points p
    cdef readonly int n
    cdef object owners

    def __init__(
        self,
        const double[:, ::1] features,  # IN (n, n_features)
        const double[::1] weights,  # IN (n) or None: for covariances only
        double energy_scale,
        double zeta,
        int n_double=-1,  # leading features in double precision, a multiple of TILE; -1: all
    ):
        cdef int n_columns = mlpot_round_up(features.shape[1], MLPOT_TILE)
        cdef double[::1] padded = aligned_zeros(mlpot_round_up(features.shape[0], MLPOT_TILE), float)
        cdef float[::1] single = None
        if n_double < 0 or n_double > n_columns:
            n_double = n_columns
        cdef double[::1] packed = _packed(MLPOT_TILE, np.asarray(features)[:, :n_double])
        self.n = self.p.n = features.shape[0]
        self.p.energy_scale, self.p.zeta, self.p.n_double = energy_scale, zeta, n_double
        self.p.packed, self.p.weights, self.p.single = vector_start(packed), NULL, NULL
        if weights is not None:
            padded[:features.shape[0]] = weights
            self.p.weights = vector_start(padded)
        if n_double < n_columns:
            single = _packed_single(np.asarray(features)[:, n_double:])
            self.p.single = vector_start(single)
        self.owners = (packed, padded, single)

    def first(self, int n):
        """The first points alone, in the same memory."""
        cdef Points part = Points.__new__(Points)
        part.p, part.owners = self.p, self.owners
        part.n = part.p.n = n
        return part

    @property
    def n_double(self):
        """Leading features whose products are in double precision."""
        return self.p.n_double

    def features(self):
        """The features (n, n_columns), behind them zeros up to a multiple of TILE; rounded where they are in single precision."""
        packed, _, single = self.owners
        parts = [packed] if single is None else [packed, single]
        return np.hstack([_unpacked(np.asarray(part, float), self.n) for part in parts])

    def tables(self):
        """Sections of a model file: the energy's points."""
        return {
            "e.sizes": np.array([self.n, self.p.n_double], np.int32),
            "e.reals": np.array([self.p.energy_scale, self.p.zeta]),
            "e.features": self.features(),
            "e.weights": np.array(self.owners[1][: self.n]),
        }


cdef class SparsePoints:
    """Sparse points of one species of centres, for the rows of a design matrix."""

    cdef mlpot_sparse p
    cdef object owners

    def __init__(
        self,
        const double[:, ::1] features,  # IN (n, n_features)
        double energy_scale,
        double zeta,
    ):
        cdef double[::1] packed = _packed(MLPOT_PANEL, features)
        self.p.n, self.p.energy_scale, self.p.zeta = features.shape[0], energy_scale, zeta
        self.p.panels = vector_start(packed)
        self.owners = packed


cdef class Members:
    """An ensemble of weights of the known points of one species of centres; see `mlpot_members`."""

    cdef mlpot_members m
    cdef readonly int n_features
    cdef object owners

    def __init__(
        self,
        features,  # IN (n, n_features) leading features of the points
        weights,  # IN (n, N_MEMBERS)
        const int32_t[::1] rows,  # IN (l_max + 2)
        const int32_t[:, ::1] group_rows,  # IN (l_max + 1, n_groups + 1)
        const int32_t[::1] channel,  # IN (n_rows)
        const int32_t[::1] entries,  # IN (n_rows + 1)
        const int32_t[::1] feature,  # IN (n_entries)
        const int32_t[::1] partner,  # IN (n_entries)
        const float[::1] coupling,  # IN (n_entries)
        residual=None,  # IN (n, N_MEMBERS) of the same features, or None
        double prior=0.0,
        double expected=0.0,
    ):
        cdef double[::1] packed = _packed(MLPOT_TILE, features)
        cdef double[::1] draws
        cdef double[::1] strengths = aligned_zeros(mlpot_round_up(len(features), MLPOT_TILE) * MLPOT_MEMBERS, float)
        np.asarray(strengths)[:weights.size] = weights.ravel()
        self.owners = (packed, strengths, rows, group_rows, channel, entries, feature, partner, coupling)
        self.n_features = self.m.n_features = mlpot_round_up(features.shape[1], MLPOT_TILE)
        self.m.packed, self.m.weights = vector_start(packed), vector_start(strengths)
        self.m.rows, self.m.group_rows, self.m.channel = vector_start(rows), matrix_start(group_rows), vector_start(channel)
        self.m.entries, self.m.feature, self.m.partner = vector_start(entries), vector_start(feature), vector_start(partner)
        self.m.coupling = vector_start(coupling)
        self.m.residual, self.m.prior, self.m.expected = NULL, prior, expected
        if residual is not None:
            draws = np.zeros(self.n_features * MLPOT_MEMBERS)
            np.asarray(draws)[:residual.size] = residual.ravel()
            self.owners += (draws,)
            self.m.residual = vector_start(draws)

    def tables(self, int n):
        """Sections of a model file, for so many points."""
        packed, strengths = (np.asarray(array) for array in self.owners[:2])
        names = ("rows", "group_rows", "channel", "entries", "feature", "partner", "coupling")
        counts = [self.n_features, len(self.owners[4]), len(self.owners[6]), self.m.residual != NULL]
        found = {
            "m.sizes": np.array(counts, np.int32),
            "m.reals": np.array([self.m.prior, self.m.expected]),
            "m.features": _unpacked(packed, n),
            "m.weights": strengths[: n * MLPOT_MEMBERS],
        }
        found |= {f"m.{name}": np.asarray(array) for name, array in zip(names, self.owners[2:9])}
        if self.m.residual != NULL:
            found["m.residual"] = np.asarray(self.owners[9])
        return found


cdef class KernelModel:
    """Energy and uncertainty of the centres of one species."""

    cdef mlpot_kernel_model m
    cdef object owners

    def __init__(
        self,
        Points energy,
        Points known,  # those whose covariances are wanted: the first of `energy` where they are among them
        spreads=(),  # IN lower triangles (n_other + n_known)^2
        Members members=None,
    ):
        cdef double[::1] packed = None
        self.m.energy, self.m.known = energy.p, known.p
        self.m.n_other, self.m.n_spreads, self.m.spread = 0, len(spreads), NULL
        self.m.members = NULL if members is None else &members.m
        if len(spreads):
            packed = aligned_copy(np.concatenate([packed_lower(np.ascontiguousarray(spread)) for spread in spreads]))
            self.m.n_other, self.m.spread = len(spreads[0]) - known.n, vector_start(packed)
        self.owners = (energy, known, packed, members)

    def tables(self, int n_features):
        """Sections of a model file, for points of so many features."""
        cdef Points energy = self.owners[0]
        cdef Points known = self.owners[1]
        packed, members = self.owners[2:]
        shared = known.owners is energy.owners
        found = energy.tables() | {"k.sizes": np.array([known.n, shared], np.int32)}
        if not shared:
            found["k.features"] = known.features()[:, :n_features]
        found["e.features"] = found["e.features"][:, :n_features]
        if packed is not None:
            triangles = np.split(np.asarray(packed), self.m.n_spreads)
            size = self.m.n_other + self.m.known.n
            found["s.sizes"] = np.array([self.m.n_other, self.m.n_spreads], np.int32)
            found["s.triangles"] = np.array([_unpacked_lower(triangle, size) for triangle in triangles])
        return found | ({} if members is None else members.tables(known.n))


cdef class Density:
    """Tables of one density descriptor in the form that the core reads."""

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
        """Tables of the features that stand before the power spectrum, or None."""
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
        KernelModel model,
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
        double[:, ::1] explained=None,  # OUT (n_atoms, n_spreads), added to
        const double[:, :] other=None,  # IN (n_atoms, n_other)
        double[:, :] covariances=None,  # OUT (n_atoms, n_known)
        float[:, :, ::1] member_gradients=None,  # OUT (n_pairs, 3, N_MEMBERS), added to
    ):
        """Energies of centres of one species, their pair gradients, and what the known points tell of them."""
        cdef mlpot_results results
        cdef int failed
        if not centres.shape[0]:
            return
        results.energies = vector_start(energies)
        results.pair_gradients = matrix_start(pair_gradients)
        results.explained = NULL if explained is None else matrix_start(explained)
        results.member_gradients = NULL
        if member_gradients is not None and member_gradients.shape[0]:
            results.member_gradients = block_start(member_gradients)
        results.other, results.other_stride = NULL, 0
        if model.m.n_other and other is not None:
            results.other, results.other_stride = part_start(other), other.strides[0] // sizeof(double)
        results.covariances, results.covariance_stride = NULL, 0
        if covariances is not None:
            results.covariances = part_start(covariances)
            results.covariance_stride = covariances.strides[0] // sizeof(double)
        with nogil:
            failed = mlpot_local_energies(&self.d, &pairs.view, &model.m, pairs.n_atoms, centres.shape[0],
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


def _packed_single(matrix):
    """Tiles of MLPOT_TILE rows in single precision."""
    tiles = _packed(MLPOT_TILE, matrix)
    single = aligned_zeros(len(tiles), np.float32)
    single[:] = tiles
    return single


def _packed(int width, matrix):
    cdef const double[:, ::1] rows = np.ascontiguousarray(matrix)
    cdef double[::1] packed = aligned_zeros(mlpot_packed_size(width, rows.shape[0], rows.shape[1]), float)
    if packed.shape[0]:
        mlpot_pack(width, rows.shape[0], rows.shape[1], &rows[0, 0], &packed[0])
    return np.asarray(packed)


def _unpacked(packed, int n):
    """The rows (n, n_columns) of tiles of MLPOT_TILE rows."""
    if not n or not len(packed):
        return np.zeros((n, 0))
    tiles = packed.reshape(mlpot_round_up(n, MLPOT_TILE) // MLPOT_TILE, -1, MLPOT_TILE)
    return tiles.transpose(0, 2, 1).reshape(-1, tiles.shape[1])[:n]


def _unpacked_lower(packed, int n):
    """The lower triangle (n, n) of `packed_lower`."""
    cdef int row, columns
    triangle, begin = np.zeros((mlpot_round_up(n, MLPOT_TILE),) * 2), 0
    for row in range(0, n, MLPOT_TILE):
        columns = row + MLPOT_TILE
        triangle[row:columns, :columns] = packed[begin : begin + columns * MLPOT_TILE].reshape(columns, MLPOT_TILE).T
        begin += columns * MLPOT_TILE
    return triangle[:n, :n]
