"""Points for comparison with environments, and ensembles over them; part of core.pyx."""


cdef class Points:
    """Environments for comparison with a structure, packed in the order of the matrix products."""

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
        """A view of the first points, in the same memory."""
        cdef Points part = Points.__new__(Points)
        part.p, part.owners = self.p, self.owners
        part.n = part.p.n = n
        return part

    @property
    def n_double(self):
        """Leading features whose products are in double precision."""
        return self.p.n_double

    def features(self):
        """The features (n, n_columns), padded with zeros to a multiple of TILE; rounded if in single precision."""
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
        """Sections of a model file, for the given number of points."""
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
        Points known,  # points for covariances; if they are among `energy`, they come first there
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
        """Sections of a model file, for points with the given number of features."""
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
