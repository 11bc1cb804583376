"""Array helpers shared by several extensions, as inline functions, since a cimport between compiled siblings would fail."""

from libc.stdint cimport int32_t, int64_t

from declarations cimport mlpot_grid, mlpot_pairs


ctypedef fused number:
    int32_t
    int64_t
    float
    double


# Address of an array or of a part of a matrix for C; NULL for an array without elements.
cdef inline number *vector_start(const number[::1] array) noexcept nogil:
    return <number *>&array[0] if array.shape[0] else NULL


cdef inline number *matrix_start(const number[:, ::1] array) noexcept nogil:
    return <number *>&array[0, 0] if array.shape[0] and array.shape[1] else NULL


cdef inline number *part_start(const number[:, :] array) noexcept nogil:
    return <number *>&array[0, 0] if array.shape[0] and array.shape[1] else NULL


cdef inline number *block_start(const number[:, :, ::1] array) noexcept nogil:
    return <number *>&array[0, 0, 0] if array.shape[0] and array.shape[1] and array.shape[2] else NULL


cdef inline mlpot_pairs pairs_of(
    const int32_t[::1] species,  # IN (n_atoms) indices of species
    const int32_t[::1] j,  # IN (n_pairs)
    const int64_t[::1] offsets,  # IN (n_atoms + 1)
    const double[:, ::1] vectors,  # IN (n_pairs, 3) A
    const double[::1] distances,  # IN (n_pairs) A
) noexcept:
    """A neighbour list in the layout of the core; the caller keeps the arrays alive."""
    cdef mlpot_pairs pairs
    pairs.species, pairs.offsets, pairs.j = vector_start(species), vector_start(offsets), vector_start(j)
    pairs.vectors, pairs.distances = matrix_start(vectors), vector_start(distances)
    return pairs


cdef inline mlpot_grid grid_of(tuple description, int n_knots):
    """The grid of a table from (start, step, kink) and the number of its stored knots."""
    cdef mlpot_grid grid
    cdef double step
    grid.start, step, grid.kink = description
    grid.per_step = 1 / step
    grid.n_intervals = n_knots - 2
    return grid


cdef inline object aligned_zeros(Py_ssize_t n, object dtype):
    """Cache-aligned zeros (n,)."""
    import numpy as np

    memory = np.zeros(n + 16, dtype)
    begin = (-(memory.ctypes.data // memory.itemsize)) % (64 // memory.itemsize)
    return memory[begin : begin + n]


cdef inline object aligned_copy(object array):
    """Copy of the numbers (n,) in cache-aligned memory."""
    copy = aligned_zeros(len(array), float)
    copy[:] = array
    return copy
