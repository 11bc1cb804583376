"""Points for comparison with environments; part of core.pyx."""


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
        double per_square=0.0,  # 1 / length_scale^2 of the Gaussian kernel in place of the polynomial; 0: polynomial
    ):
        cdef int n_columns = mlpot_round_up(features.shape[1], MLPOT_TILE)
        cdef double[::1] padded = aligned_zeros(mlpot_round_up(features.shape[0], MLPOT_TILE), float)
        cdef float[::1] single = None
        if n_double < 0 or n_double > n_columns:
            n_double = n_columns
        cdef double[::1] packed = _packed(MLPOT_TILE, np.asarray(features)[:, :n_double])
        self.n = self.p.n = features.shape[0]
        self.p.energy_scale, self.p.zeta, self.p.n_double = energy_scale, zeta, n_double
        self.p.per_square = per_square
        self.p.packed, self.p.weights, self.p.single = vector_start(packed), NULL, NULL
        if weights is not None:
            padded[:features.shape[0]] = weights
            self.p.weights = vector_start(padded)
        if n_double < n_columns:
            single = packed_single(np.asarray(features)[:, n_double:])
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

    def tables(self):
        """Sections of a model file: the energy's points."""
        packed, padded, single = self.owners
        found = {
            "e.sizes": np.array([self.n, self.p.n_double], np.int32),
            "e.reals": np.array([self.p.energy_scale, self.p.zeta]),
            "e.packed": np.asarray(packed),
            "e.weights": np.asarray(padded),
        }
        found |= {"e.gaussian": np.array([self.p.per_square])} if self.p.per_square else {}
        return found | ({} if single is None else {"e.single": np.asarray(single)})

    def known_tables(self, Points energy):
        """Sections of a model file: points for covariances, the first ones of `energy` or others."""
        shared = self.owners is energy.owners
        found = {"k.sizes": np.array([self.n, shared], np.int32)}
        return found | ({} if shared else {"k.packed": np.asarray(self.owners[0])})


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


def packed_rows(matrix):
    """A matrix (n, n_columns) in tiles of TILE rows, padded with zeros: the order of the products."""
    return _packed(MLPOT_TILE, matrix)


def packed_lower(const double[:, ::1] triangle):
    """A lower triangle (n, n) in the order of the products."""
    packed = aligned_zeros(mlpot_packed_lower_size(triangle.shape[0]), float)
    cdef double[::1] out = packed
    if triangle.shape[0]:
        mlpot_pack_lower(triangle.shape[0], &triangle[0, 0], &out[0])
    return packed


def packed_single(matrix):
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
