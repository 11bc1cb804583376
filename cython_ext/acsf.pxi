"""Sums over neighbours and triplets for symmetry functions; part of core.pyx. Created by mlpot/descriptors/neighbour_sums.py."""


cdef class CurveTable:
    """Curves of one variable in the layout of the core."""

    cdef mlpot_curves t
    cdef object owners

    def __init__(
        self,
        const double[::1] start,  # IN (n_segments)
        const double[::1] step,  # IN (n_segments)
        const int32_t[::1] first,  # IN (n_segments)
        const int32_t[::1] n_intervals,  # IN (n_segments)
        const double[:, :, ::1] knots,  # IN (n_knots, 3, n_columns), columns a multiple of CHANNELS
    ):
        cdef double[::1] per_step = 1 / np.asarray(step)
        cdef double[::1] memory = aligned_copy(np.asarray(knots).ravel())
        self.owners = (start, per_step, first, n_intervals, memory)
        self.t.n_segments, self.t.n_columns = start.shape[0], knots.shape[2]
        self.t.start, self.t.per_step = vector_start(start), vector_start(per_step)
        self.t.first, self.t.n_intervals = vector_start(first), vector_start(n_intervals)
        self.t.knots = vector_start(memory)

    def tables(self):
        """Sections of a model file."""
        start, per_step, first, n_intervals, memory = map(np.asarray, self.owners)
        n_knots = len(memory) // (3 * self.t.n_columns)
        return {"sizes": np.array([self.t.n_segments, self.t.n_columns, n_knots]), "start": start, "per_step": per_step,
                "first": first, "n_intervals": n_intervals, "knots": memory}


def _named(before, tables):
    """Tables by name, with something before each name."""
    return {before + name: array for name, array in tables.items()}


cdef class Neighbourhood:
    """The neighbours of all centres; keeps the arrays alive."""

    cdef mlpot_pairs pairs
    cdef int64_t n_atoms
    cdef object owners

    def __init__(
        self,
        const int32_t[::1] species,  # IN (n_atoms) index into the descriptor's species
        const int32_t[::1] j,  # IN (n_pairs)
        const int64_t[::1] offsets,  # IN (n_atoms + 1)
        const double[:, ::1] vectors,  # IN (n_pairs, 3) A
        const double[::1] distances,  # IN (n_pairs) A
    ):
        self.owners = (species, j, offsets, vectors, distances)
        self.pairs, self.n_atoms = pairs_of(species, j, offsets, vectors, distances), species.shape[0]


cdef mlpot_shell shell_of(const int32_t[::1] group, int n_groups, double cutoff, CurveTable curves):
    cdef mlpot_shell shell
    shell.n_species, shell.n_groups, shell.group = group.shape[0], n_groups, vector_start(group)
    shell.cutoff, shell.curves = cutoff, curves.t
    return shell


cdef dict shell_tables(mlpot_shell *shell, group, CurveTable curves):
    return {"group": np.asarray(group), "n_groups": np.array([shell.n_groups]), "cutoff": np.array([shell.cutoff])} | _named(
        "curves.", curves.tables())


cdef class Moments:
    """Sums of curves and spectra of moments; see core/acsf.h."""

    cdef mlpot_moments t
    cdef object owners

    def __init__(
        self,
        *,
        const int32_t[::1] group,  # IN (n_species)
        int n_groups,
        double cutoff,
        CurveTable curves,
        int n_summed,
        int n_polynomials,
        const double[:, ::1] sum_weights,  # IN (n_species, n_sum_weights)
        int n_angular,
        const double[:, ::1] weights,  # IN (n_species, n_weights)
        const int32_t[::1] degree,  # IN (n_entries) ascending
        const int32_t[::1] column,  # IN (n_entries)
        const int32_t[::1] left,  # IN (n_products)
        const int32_t[::1] right,  # IN (n_products)
    ):
        cdef int l_max = max(degree) if degree.shape[0] else 0
        cdef double[::1] norms = np.empty((l_max + 1) * (l_max + 2) // 2)
        sizes = 2 * np.asarray(degree) + 1
        cdef int32_t[::1] place = (np.cumsum(sizes) - sizes).astype(np.int32)
        mlpot_harmonics_norms(l_max, vector_start(norms))
        self.owners = (group, curves, sum_weights, weights, degree, column, left, right, norms, place)
        self.t.shell = shell_of(group, n_groups, cutoff, curves)
        self.t.n_summed, self.t.n_polynomials = n_summed, n_polynomials
        self.t.n_sum_weights = sum_weights.shape[1]
        self.t.sum_weights, self.t.weights = matrix_start(sum_weights), matrix_start(weights)
        self.t.n_angular, self.t.n_weights = n_angular, weights.shape[1]
        self.t.l_max, self.t.n_entries, self.t.n_coefficients = l_max, degree.shape[0], int(sizes.sum())
        self.t.degree, self.t.column, self.t.place = vector_start(degree), vector_start(column), vector_start(place)
        self.t.n_products, self.t.left, self.t.right = left.shape[0], vector_start(left), vector_start(right)
        self.t.harmonics = vector_start(norms)

    @property
    def n_values(self):
        return mlpot_n_moments(&self.t)

    def tables(self):
        """Sections of a model file."""
        names = ("sum_weights", "weights", "degree", "column", "left", "right")
        sizes = [self.t.n_summed, self.t.n_polynomials, self.t.n_sum_weights, self.t.n_angular, self.t.n_weights, self.t.n_entries,
                 self.t.n_products]
        return (
            {"kind": np.array([MLPOT_MOMENTS]), "sizes": np.array(sizes)}
            | shell_tables(&self.t.shell, self.owners[0], self.owners[1])
            | {name: np.asarray(array) for name, array in zip(names, self.owners[2:8])}
        )

    def compute(self, Neighbourhood near, int n_threads):
        """Sums, then spectra (n_atoms, n)."""
        cdef double[:, ::1] out = np.empty((near.n_atoms, mlpot_n_moments(&self.t)))
        cdef int failed
        with nogil:
            failed = mlpot_moments_of(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(out))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def add_vjp(
        self,
        Neighbourhood near,
        const double[:, ::1] cotangent,  # IN (n_atoms, n)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
    ):
        """Pullback of a cotangent of `compute`."""
        cdef int failed
        with nogil:
            failed = mlpot_moments_vjp(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(cotangent),
                                       matrix_start(pair_gradients))
        if failed:
            raise MemoryError


cdef class TripletFunctions:
    """Functions of triplets; see core/acsf.h."""

    cdef mlpot_triplet_functions t
    cdef object owners

    def __init__(
        self,
        *,
        const int32_t[::1] group,  # IN (n_species)
        int n_groups,
        double cutoff,
        CurveTable curves,
        const double[::1] weights,  # IN (n_species)
        const double[::1] ends,  # IN (n_even) A
        const double[:, ::1] even,  # IN (n_even, degree + 1) polynomials of r_jk, the highest power first
        CurveTable apart,  # or None
        CurveTable windows,  # or None
        const int32_t[::1] radial,  # IN (n_shapes)
        const int32_t[::1] between,  # IN (n_shapes)
        const int32_t[::1] begin,  # IN (n_shapes + 1)
        const int32_t[::1] angular,  # IN (n_functions)
        const double[::1] zeta,  # IN (n_angular)
        const double[::1] lambdas,  # IN (n_angular)
        const int32_t[::1] window,  # IN (n_angular)
    ):
        cdef double[::1] end_squares = np.square(ends)
        self.owners = (group, curves, weights, end_squares, even, apart, windows, radial, between, begin, angular, zeta, lambdas, window)
        self.t.shell = shell_of(group, n_groups, cutoff, curves)
        self.t.even.n, self.t.even.degree = even.shape[0], even.shape[1] - 1
        self.t.even.end_squares, self.t.even.coefficients = vector_start(end_squares), matrix_start(even)
        self.t.weights = vector_start(weights)
        self.t.apart.n_segments = self.t.apart.n_columns = 0
        self.t.windows.n_segments = self.t.windows.n_columns = 0
        if apart is not None:
            self.t.apart = apart.t
        if windows is not None:
            self.t.windows = windows.t
        self.t.n_shapes, self.t.radial, self.t.between = radial.shape[0], vector_start(radial), vector_start(between)
        self.t.begin, self.t.angular = vector_start(begin), vector_start(angular)
        self.t.n_angular, self.t.zeta, self.t.lambda_ = zeta.shape[0], vector_start(zeta), vector_start(lambdas)
        self.t.window = vector_start(window)

    @property
    def n_values(self):
        return mlpot_n_triplet_functions(&self.t)

    def tables(self):
        """Sections of a model file."""
        group, curves, weights, end_squares, even, apart, windows, *others = self.owners
        names = ("radial", "between", "begin", "angular", "zeta", "lambda", "window")
        sizes = [self.t.even.n, self.t.even.degree, self.t.n_shapes, len(others[3]), self.t.n_angular, apart is not None,
                 windows is not None]
        found = {"kind": np.array([MLPOT_TRIPLETS]), "sizes": np.array(sizes)} | shell_tables(&self.t.shell, group, curves)
        found |= {"weights": np.asarray(weights), "end_squares": np.asarray(end_squares), "even": np.asarray(even)}
        found |= {name: np.asarray(array) for name, array in zip(names, others)}
        found |= {} if apart is None else _named("apart.", apart.tables())
        return found | ({} if windows is None else _named("windows.", windows.tables()))

    def compute(self, Neighbourhood near, int n_threads):
        """Functions (n_atoms, n) of every pair of groups a >= b."""
        cdef double[:, ::1] out = np.empty((near.n_atoms, mlpot_n_triplet_functions(&self.t)))
        cdef int failed
        with nogil:
            failed = mlpot_triplets_of(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(out))
        if failed:
            raise MemoryError
        return np.asarray(out)

    def add_vjp(
        self,
        Neighbourhood near,
        const double[:, ::1] cotangent,  # IN (n_atoms, n)
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        int n_threads,
    ):
        """Pullback of a cotangent of `compute`."""
        cdef int failed
        with nogil:
            failed = mlpot_triplets_vjp(&self.t, &near.pairs, near.n_atoms, n_threads, matrix_start(cotangent),
                                        matrix_start(pair_gradients))
        if failed:
            raise MemoryError
