"""Tables of contractions of more than two densities; part of core.pyx."""


cdef class ContractionTables:
    """`Contractions` in the layout of the core, see `mlpot_contractions`."""

    cdef mlpot_contractions t
    cdef readonly int n_features
    cdef readonly object shares
    cdef object owners

    def __init__(
        self,
        *,
        const double[:, :, ::1] shares,  # IN (l_max + 1, n_mixed, n_channels)
        const int32_t[::1] left,  # IN (n_products)
        const int32_t[::1] right,  # IN (n_products)
        const int32_t[::1] rows,  # IN (n_invariants + 1)
        const int32_t[::1] variable,  # IN (n_rows)
        const int32_t[::1] entries,  # IN (n_rows + 1)
        const int32_t[::1] node,  # IN (n_entries)
        const double[::1] coefficient,  # IN (n_entries)
        const int32_t[::1] degree,  # IN (n_invariants)
        const int32_t[::1] mixed,  # IN (n_features)
        const int32_t[::1] invariant,  # IN (n_features)
        const double[::1] scale,  # IN (n_features)
    ):
        self.owners = (left, right, rows, variable, entries, node, coefficient, degree, mixed, invariant, scale)
        self.shares = np.asarray(shares)
        self.n_features = self.t.n_features = mixed.shape[0]
        self.t.l_max, self.t.n_mixed = shares.shape[0] - 1, shares.shape[1]
        self.t.n_nodes = shares.shape[0] * shares.shape[0] + left.shape[0]
        self.t.shares = block_start(shares)
        self.t.left, self.t.right = vector_start(left), vector_start(right)
        self.t.rows, self.t.variable = vector_start(rows), vector_start(variable)
        self.t.entries, self.t.node, self.t.coefficient = vector_start(entries), vector_start(node), vector_start(coefficient)
        self.t.degree, self.t.mixed = vector_start(degree), vector_start(mixed)
        self.t.invariant, self.t.scale = vector_start(invariant), vector_start(scale)

    def tables(self):
        """Sections of a model file."""
        names = ("left", "right", "rows", "variable", "entries", "node", "coefficient", "degree", "mixed", "invariant", "scale")
        arrays = {name: np.asarray(array) for name, array in zip(names, self.owners)}
        counts = [
            self.t.l_max, self.t.n_mixed, len(arrays["left"]), len(arrays["degree"]), len(arrays["variable"]), len(arrays["node"]),
            self.n_features,
        ]
        found = {"c.sizes": np.array(counts, np.int32), "c.shares": self.shares}
        return found | {f"c.{name}": array for name, array in arrays.items()}
