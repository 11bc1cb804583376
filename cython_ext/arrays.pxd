"""What several extensions do with arrays: a cimport between compiled siblings would fail, inline functions do not."""

from libc.stdint cimport int32_t, int64_t

from core cimport mlpot_pairs


cdef inline mlpot_pairs pairs_of(
    const int32_t[::1] species,  # IN (n_atoms) indices of species
    const int32_t[::1] j,  # IN (n_pairs)
    const int64_t[::1] offsets,  # IN (n_atoms + 1)
    const double[:, ::1] vectors,  # IN (n_pairs, 3) A
    const double[::1] distances,  # IN (n_pairs) A
) noexcept:
    """A neighbour list as the core reads it; the caller keeps the arrays alive."""
    cdef mlpot_pairs pairs
    cdef bint some = j.shape[0] > 0
    pairs.species = &species[0]
    pairs.offsets = &offsets[0]
    pairs.j = &j[0] if some else NULL
    pairs.vectors = &vectors[0, 0] if some else NULL
    pairs.distances = &distances[0] if some else NULL
    return pairs


cdef inline object aligned_zeros(Py_ssize_t n, object dtype):
    """(n,) zeros that begin on a cache line."""
    import numpy as np

    memory = np.zeros(n + 16, dtype)
    begin = (-(memory.ctypes.data // memory.itemsize)) % (64 // memory.itemsize)
    return memory[begin : begin + n]


cdef inline object aligned_copy(object array):
    """The numbers (n,) from an address at the beginning of a cache line."""
    copy = aligned_zeros(len(array), float)
    copy[:] = array
    return copy
