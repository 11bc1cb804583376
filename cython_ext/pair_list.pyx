"""Cell-list neighbour search, pair vectors, and the sums of pair gradients over atoms.

Everything here trusts its arguments: mlpot/neighbours.py checks them.
"""

import numpy as np

from libc.math cimport ceil, floor, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, qsort, realloc


cdef extern from "pair_gradients.h" nogil:
    void mlpot_add_pair_forces(int64_t i, int64_t j, Py_ssize_t n_columns, const double *gradient, Py_ssize_t apart,
                               double *forces, Py_ssize_t stride)
    void mlpot_add_pair_virial(const double *vector, Py_ssize_t n_columns, const double *gradient, Py_ssize_t apart,
                               double *virial, Py_ssize_t stride)


cdef struct Neighbour:
    int32_t j
    int32_t shift[3]


cdef struct Bins:
    int count[3]  # bins along each cell vector
    int reach[3]  # bins to search on either side
    bint periodic[3]


cdef inline int compare(const Neighbour *a, const Neighbour *b) noexcept nogil:
    cdef int k
    if a.j != b.j:
        return -1 if a.j < b.j else 1
    for k in range(3):
        if a.shift[k] != b.shift[k]:
            return -1 if a.shift[k] < b.shift[k] else 1
    return 0


cdef int compare_void(const void *a, const void *b) noexcept nogil:
    return compare(<const Neighbour *> a, <const Neighbour *> b)


cdef void sort_neighbours(Neighbour *list, int64_t n) noexcept nogil:
    """Canonical order (j, shift): the list does not depend on how it was found."""
    cdef int64_t k, hole
    cdef Neighbour held
    if n > 100:
        qsort(list, n, sizeof(Neighbour), compare_void)
        return
    for k in range(1, n):
        held = list[k]
        hole = k
        while hole > 0 and compare(&held, &list[hole - 1]) < 0:
            list[hole] = list[hole - 1]
            hole -= 1
        list[hole] = held


cdef struct Grid:
    const int32_t *starts  # (n_bins + 1) first slot of each bin
    const int32_t *members  # (n_atoms) atom in each slot
    const double *positions  # (n_atoms, 3) wrapped positions, slot by slot
    const int32_t *wraps  # (n_atoms, 3)
    const double *cell  # (3, 3)


cdef int64_t search_bin(
    const Grid *grid, int32_t atom, const double *centre, int32_t bin_index, const int *image, double cutoff_squared,
    int64_t n, int64_t room, Neighbour *found
) noexcept nogil:
    """Append the neighbours that one image of a bin holds; counts on, without writing, when the room is used up."""
    cdef int32_t slot, j
    cdef int k
    cdef double origin[3]
    cdef double x, y, z
    for k in range(3):
        origin[k] = image[0] * grid.cell[k] + image[1] * grid.cell[3 + k] + image[2] * grid.cell[6 + k] - centre[k]
    for slot in range(grid.starts[bin_index], grid.starts[bin_index + 1]):
        x = grid.positions[3 * slot] + origin[0]
        y = grid.positions[3 * slot + 1] + origin[1]
        z = grid.positions[3 * slot + 2] + origin[2]
        if x * x + y * y + z * z >= cutoff_squared:
            continue
        j = grid.members[slot]
        if j == atom and image[0] == 0 and image[1] == 0 and image[2] == 0:
            continue
        if n < room:
            found[n].j = j
            for k in range(3):
                found[n].shift[k] = image[k] + grid.wraps[3 * atom + k] - grid.wraps[3 * j + k]
        n += 1
    return n


cdef int64_t search(
    const Grid *grid, const Bins *bins, int32_t atom, const int32_t *home, const double *centre, double cutoff_squared,
    int64_t room, Neighbour *found
) noexcept nogil:
    """Number of neighbours of an atom; the first `room` of them into `found`."""
    cdef int64_t n = 0
    cdef int low[3]
    cdef int high[3]
    cdef int image[3]
    cdef int a, b, c, k, row
    for k in range(3):
        low[k], high[k] = home[k] - bins.reach[k], home[k] + bins.reach[k]
        if not bins.periodic[k]:
            low[k], high[k] = max(low[k], 0), min(high[k], bins.count[k] - 1)
    for a in range(low[0], high[0] + 1):
        image[0] = floor_div(a, bins.count[0])
        for b in range(low[1], high[1] + 1):
            image[1] = floor_div(b, bins.count[1])
            row = ((a - image[0] * bins.count[0]) * bins.count[1] + b - image[1] * bins.count[1]) * bins.count[2]
            for c in range(low[2], high[2] + 1):
                image[2] = floor_div(c, bins.count[2])
                n = search_bin(grid, atom, centre, row + c - image[2] * bins.count[2], image, cutoff_squared, n, room,
                               found)
    return n


cdef inline int floor_div(int a, int b) noexcept nogil:
    return a // b - (a % b < 0)


cdef void lay_bins(Bins *bins, const double *heights, double radius, Py_ssize_t n_atoms, int crowd) noexcept nogil:
    """Bins about as wide as the radius, half of it where more than `crowd` atoms share one, never many more than atoms.

    `heights` are the extents across the planes of the cell; the search reaches one bin, or as many as the radius needs.
    """
    cdef int k, widest
    cdef double scale = 1.0, n_bins = 0.0
    cdef double count[3]
    while True:
        for k in range(3):
            count[k] = max(floor(scale * heights[k] / radius), 1.0)
        n_bins = count[0] * count[1] * count[2]
        if scale > 1.0 or n_atoms <= crowd * n_bins:
            break
        scale = 2.0
    while count[0] * count[1] * count[2] > max(4.0 * n_atoms, 8.0):
        widest = 0 if count[0] >= count[1] and count[0] >= count[2] else (1 if count[1] >= count[2] else 2)
        count[widest] = ceil(count[widest] / 2)
    for k in range(3):
        bins.count[k] = <int> count[k]
        if bins.periodic[k]:
            bins.reach[k] = <int> ceil(radius * count[k] / heights[k] * (1 + 1e-12))
        else:  # beyond the last bin there is nothing
            bins.reach[k] = bins.count[k] if radius >= heights[k] else <int> ceil(radius * count[k] / heights[k])


cdef void invert(const double[:, ::1] cell, double *inverse) noexcept nogil:
    """Inverse (3, 3) by cofactors."""
    cdef int a, b, a1, a2, b1, b2
    cdef double volume = 0.0
    for a in range(3):
        a1, a2 = (a + 1) % 3, (a + 2) % 3
        for b in range(3):
            b1, b2 = (b + 1) % 3, (b + 2) % 3
            inverse[3 * b + a] = cell[a1, b1] * cell[a2, b2] - cell[a1, b2] * cell[a2, b1]
    for b in range(3):
        volume += cell[0, b] * inverse[3 * b]
    for a in range(9):
        inverse[a] /= volume


cdef void place_atoms(
    const double[:, ::1] positions, const double[:, ::1] cell, const double *inverse, double radius, int crowd,
    Bins *bins, double[:, ::1] wrapped, int32_t[:, ::1] wraps, int32_t[:, ::1] homes
) noexcept nogil:
    """Wrap atoms into the cell along periodic directions, lay bins over them, and find the bin of each."""
    cdef Py_ssize_t i
    cdef int k, m
    cdef double f, norm
    cdef double low[3]
    cdef double extent[3]
    cdef double heights[3]
    for k in range(3):
        low[k], extent[k] = (0.0, 1.0) if bins.periodic[k] else (1e300, -1e300)
    for i in range(positions.shape[0]):
        for k in range(3):
            f = positions[i, 0] * inverse[k] + positions[i, 1] * inverse[3 + k] + positions[i, 2] * inverse[6 + k]
            wraps[i, k] = <int32_t> floor(f) if bins.periodic[k] else 0
            wrapped[i, k] = f - wraps[i, k]
            if not bins.periodic[k]:
                low[k], extent[k] = min(low[k], f), max(extent[k], f)
    for k in range(3):
        norm = sqrt(inverse[k] * inverse[k] + inverse[3 + k] * inverse[3 + k] + inverse[6 + k] * inverse[6 + k])
        if not bins.periodic[k]:
            extent[k] -= low[k]
        heights[k] = extent[k] / norm
    lay_bins(bins, heights, radius, positions.shape[0], crowd)
    for i in range(positions.shape[0]):
        for k in range(3):
            f = (wrapped[i, k] - low[k]) / extent[k] if extent[k] > 0 else 0.0
            homes[i, k] = min(max(<int32_t> (f * bins.count[k]), 0), bins.count[k] - 1)
        for m in range(3):
            wrapped[i, m] = positions[i, m]
            for k in range(3):
                wrapped[i, m] -= wraps[i, k] * cell[k, m]


cdef void sort_into_bins(
    const double[:, ::1] wrapped, const int32_t[:, ::1] homes, const Bins *bins, int32_t[::1] starts,
    int32_t[::1] members, double[:, ::1] ordered
) noexcept nogil:
    """Counting sort of atoms by bin: contiguous memory for the search."""
    cdef Py_ssize_t i, n_bins = starts.shape[0] - 1
    cdef int32_t slot
    cdef int k
    for i in range(homes.shape[0]):
        starts[bin_of(homes, i, bins) + 1] += 1
    for i in range(n_bins):
        starts[i + 1] += starts[i]
    for i in range(homes.shape[0] - 1, -1, -1):
        slot = starts[bin_of(homes, i, bins) + 1] - 1
        starts[bin_of(homes, i, bins) + 1] = slot
        members[slot] = <int32_t> i
        for k in range(3):
            ordered[slot, k] = wrapped[i, k]
    for i in range(n_bins):
        starts[i] = starts[i + 1]
    starts[n_bins] = <int32_t> homes.shape[0]


cdef inline int32_t bin_of(const int32_t[:, ::1] homes, Py_ssize_t i, const Bins *bins) noexcept nogil:
    return (homes[i, 0] * bins.count[1] + homes[i, 1]) * bins.count[2] + homes[i, 2]


def find_candidates(
    const double[:, ::1] positions,  # IN (n_atoms, 3) A
    const double[:, ::1] cell,  # IN (3, 3) A, never flat
    tuple periodic,  # IN (3) bool
    double radius,
    int crowd,
):
    """Offsets (n_atoms + 1), j (n_pairs) and shifts (n_pairs, 3) of all pairs nearer than `radius`, canonical order.

    `crowd` is the number of atoms in a bin from which halving the bins pays.
    """
    cdef Py_ssize_t n_atoms = positions.shape[0], i
    cdef double[:, ::1] wrapped = np.empty((n_atoms, 3)), ordered = np.empty((n_atoms, 3))
    cdef int32_t[:, ::1] wraps = np.empty((n_atoms, 3), np.int32), homes = np.empty((n_atoms, 3), np.int32)
    cdef int64_t[::1] offsets = np.zeros(n_atoms + 1, np.int64)
    cdef int32_t[::1] members = np.empty(n_atoms, np.int32)
    cdef int32_t[::1] starts
    cdef Bins bins
    cdef Grid grid
    cdef Neighbour *found = NULL
    cdef Neighbour *grown
    cdef int64_t capacity = 0, n, total = 0
    cdef double inverse[9]
    cdef int k
    for k in range(3):
        bins.periodic[k] = periodic[k]
    invert(cell, inverse)
    place_atoms(positions, cell, inverse, radius, crowd, &bins, wrapped, wraps, homes)
    starts = np.zeros(<Py_ssize_t> bins.count[0] * bins.count[1] * bins.count[2] + 1, np.int32)
    sort_into_bins(wrapped, homes, &bins, starts, members, ordered)
    grid.starts, grid.members, grid.positions = &starts[0], &members[0], &ordered[0, 0]
    grid.wraps, grid.cell = &wraps[0, 0], &cell[0, 0]
    radius *= 1 + 1e-10  # pairs at the radius itself are decided by whoever asks
    try:
        for i in range(n_atoms):
            while True:
                n = search(&grid, &bins, <int32_t> i, &homes[i, 0], &wrapped[i, 0], radius * radius, capacity - total,
                           found + total)
                if total + n <= capacity:
                    break
                capacity = 2 * (total + n) + 64 * n_atoms
                grown = <Neighbour *> realloc(found, capacity * sizeof(Neighbour))
                if grown is NULL:
                    raise MemoryError
                found = grown
            sort_neighbours(found + total, n)
            total += n
            offsets[i + 1] = total
        return np.asarray(offsets), *unpack(found, total)
    finally:
        free(found)


cdef tuple unpack(const Neighbour *found, int64_t n):
    cdef int32_t[::1] j = np.empty(n, np.int32)
    cdef int32_t[:, ::1] shifts = np.empty((n, 3), np.int32)
    cdef int64_t p
    cdef int k
    for p in range(n):
        j[p] = found[p].j
        for k in range(3):
            shifts[p, k] = found[p].shift[k]
    return np.asarray(j), np.asarray(shifts)


def pairs_within(
    const double[:, ::1] positions,  # IN (n_atoms, 3) A, as the user gave them
    const double[:, ::1] cell,  # IN (3, 3) A
    const int64_t[::1] offsets,  # IN (n_atoms + 1) candidates of each centre
    const int32_t[::1] j,  # IN (n_candidates)
    const int32_t[:, ::1] shifts,  # IN (n_candidates, 3)
    double cutoff,
):
    """The candidates nearer than `cutoff`: offsets, i, j, shifts, vectors (A), distances (A), in their order.

    Every list passes through here, so a pair's vector is the same to the last bit however its candidates were found.
    """
    cdef int64_t n = j.shape[0], p, kept = 0
    cdef Py_ssize_t n_atoms = positions.shape[0], a
    cdef int64_t[::1] out_offsets = np.zeros(n_atoms + 1, np.int64)
    cdef int32_t[::1] out_i = np.empty(n, np.int32), out_j = np.empty(n, np.int32)
    cdef int32_t[:, ::1] out_shifts = np.empty((n, 3), np.int32)
    cdef double[:, ::1] vectors = np.empty((n, 3))
    cdef double[::1] distances = np.empty(n)
    cdef double v[3]
    cdef double d
    cdef int k
    with nogil:
        for a in range(n_atoms):
            for p in range(offsets[a], offsets[a + 1]):
                for k in range(3):
                    v[k] = (positions[j[p], k] - positions[a, k]) + (
                        shifts[p, 0] * cell[0, k] + shifts[p, 1] * cell[1, k] + shifts[p, 2] * cell[2, k])
                d = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
                if d >= cutoff:
                    continue
                out_i[kept], out_j[kept], distances[kept] = <int32_t> a, j[p], d
                for k in range(3):
                    vectors[kept, k] = v[k]
                    out_shifts[kept, k] = shifts[p, k]
                kept += 1
            out_offsets[a + 1] = kept
    return (np.asarray(out_offsets), np.asarray(out_i)[:kept], np.asarray(out_j)[:kept], np.asarray(out_shifts)[:kept],
            np.asarray(vectors)[:kept], np.asarray(distances)[:kept])


def add_forces(
    const int32_t[::1] i,  # IN (n_pairs)
    const int32_t[::1] j,  # IN (n_pairs)
    const double[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns)
    double[:, :, ::1] forces,  # OUT (n_atoms, 3, n_columns), added to
):
    """Forces from pair gradients, in the order of the pairs: the sum does not depend on threads."""
    cdef Py_ssize_t p, n_columns = pair_gradients.shape[2]
    with nogil:
        for p in range(i.shape[0]):
            mlpot_add_pair_forces(i[p], j[p], n_columns, &pair_gradients[p, 0, 0], n_columns, &forces[0, 0, 0],
                                  n_columns)


def add_virial(
    const double[:, ::1] vectors,  # IN (n_pairs, 3)
    const double[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns)
    double[:, ::1] virial,  # OUT (9, n_columns), added to
):
    """Virial from pair gradients, in the order of the pairs."""
    cdef Py_ssize_t p, n_columns = pair_gradients.shape[2]
    with nogil:
        for p in range(vectors.shape[0]):
            mlpot_add_pair_virial(&vectors[p, 0], n_columns, &pair_gradients[p, 0, 0], n_columns, &virial[0, 0],
                                  n_columns)
