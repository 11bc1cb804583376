"""Neighbour search and pair vectors; mlpot/neighbours.py checks the arguments."""

import numpy as np

from libc.math cimport ceil, fabs, floor, sqrt
from libc.stdint cimport int16_t, int32_t, int64_t
from libc.stdlib cimport free, realloc


cdef double MOST_IMAGES = 30000.0  # an image fits an int16_t
cdef double MOST_WRAPS = 1e7  # fractional coordinates keep nine digits
cdef double BINS_PER_RADIUS = 1.5  # measured optimum: fewer bins search too much space, more cost more than they save
cdef double BINS_PER_RADIUS_IN_ROW = 4.0  # a row of bins is searched at once, at little cost

ctypedef double Vector[3]
ctypedef int Triple[3]


cdef struct Hit:
    int32_t atom
    int16_t image[3]


cdef struct Hits:
    Hit *items
    int64_t n
    int64_t room
    int64_t most  # refused beyond
    bint too_many


cdef struct Grid:
    int64_t n_atoms
    bint periodic[3]
    int count[3]  # bins along each cell vector
    double reach[3]  # search radius in bins
    double radius
    const double *cell  # (3, 3)
    double *where  # (n_atoms, 3) position in units of bins
    double *wrapped  # (n_atoms, 3) positions in the home cell
    int32_t *wraps  # (n_atoms, 3) cell shifts relative to the user's positions
    int32_t *homes  # (n_atoms) bin of each atom
    int32_t *starts  # (n_bins + 1) first slot of each bin
    int32_t *members  # (n_atoms) atom in each slot
    double *ordered  # (n_atoms, 3) wrapped positions, slot by slot


cdef inline int floor_div(int a, int b) noexcept nogil:
    return a // b - (a % b < 0)


cdef bint make_room(Hits *hits, int64_t extra) noexcept nogil:
    cdef int64_t room = hits.n + extra
    cdef Hit *grown
    if room <= hits.room:
        return True
    if room > hits.most:
        hits.too_many = True
        return False
    room += room // 2
    grown = <Hit *> realloc(hits.items, room * sizeof(Hit))
    if grown is NULL:
        return False
    hits.items, hits.room = grown, room
    return True


cdef bint search_slots(
    const Grid *grid, const double *centre, int32_t begin, int32_t end, const int *image, Hits *hits
) noexcept nogil:
    """Append the atoms in slots begin..end, seen in one image, near the centre; False without memory."""
    cdef int32_t slot
    cdef int64_t n = hits.n
    cdef int k
    cdef Hit hit
    cdef Hit *items
    cdef Vector origin
    cdef double x, y, z, radius_squared = grid.radius * grid.radius
    if not make_room(hits, end - begin):
        return False
    for k in range(3):
        hit.image[k] = <int16_t> image[k]
        origin[k] = image[0] * grid.cell[k] + image[1] * grid.cell[3 + k] + image[2] * grid.cell[6 + k]
        origin[k] -= centre[k]
    items = hits.items
    for slot in range(begin, end):
        x = grid.ordered[3 * slot] + origin[0]
        y = grid.ordered[3 * slot + 1] + origin[1]
        z = grid.ordered[3 * slot + 2] + origin[2]
        hit.atom = grid.members[slot]
        items[n] = hit  # kept or overwritten: a branch would be mispredicted every third time
        n += x * x + y * y + z * z < radius_squared
    hits.n = n
    return True


cdef bint search(const Grid *grid, int64_t atom, Hits *hits) noexcept nogil:
    """Append the neighbours of an atom, the images of each in descending order; False without memory."""
    cdef Triple low, high, image
    cdef int a, b, c, k, row, first
    cdef const int32_t *starts
    for k in range(3):
        low[k] = <int> floor(grid.where[3 * atom + k] - grid.reach[k])
        high[k] = <int> floor(grid.where[3 * atom + k] + grid.reach[k])
        if not grid.periodic[k]:
            low[k], high[k] = max(low[k], 0), min(high[k], grid.count[k] - 1)
    for a in range(high[0], low[0] - 1, -1):
        image[0] = floor_div(a, grid.count[0])
        for b in range(high[1], low[1] - 1, -1):
            image[1] = floor_div(b, grid.count[1])
            row = (a - image[0] * grid.count[0]) * grid.count[1] + b - image[1] * grid.count[1]
            c = high[2]
            while c >= low[2]:  # all bins of a row that lie in the same image at once
                image[2] = floor_div(c, grid.count[2])
                first = max(low[2], image[2] * grid.count[2])
                starts = &grid.starts[(row - image[2]) * grid.count[2]]
                if not search_slots(grid, &grid.wrapped[3 * atom], starts[first], starts[c + 1], image, hits):
                    return False
                c = first - 1
    return True


cdef bint search_all(const Grid *grid, Hits *hits, int64_t *ends, int64_t *counts) noexcept nogil:
    """Find the hits of all atoms, the end of the hits of each, and the number of times each was hit. False if out of memory."""
    cdef int64_t atom, h, kept = 0
    cdef Hit *hit
    if not make_room(hits, 32 * grid.n_atoms):
        return False
    for atom in range(grid.n_atoms):
        if not search(grid, atom, hits):
            return False
        for h in range(kept, hits.n):
            hit = &hits.items[h]
            if hit.atom == atom and hit.image[0] == 0 and hit.image[1] == 0 and hit.image[2] == 0:
                continue  # the atom itself
            counts[hit.atom] += 1
            hits.items[kept] = hit[0]
            kept += 1
        hits.n = ends[atom] = kept
    return True


cdef void transpose(
    const Grid *grid, const Hit *hits, const int64_t *ends, int64_t *cursors, int32_t *j, int32_t *shifts
) noexcept nogil:
    """Make pairs from hits: the atom that was hit is the centre, the searching atom is the neighbour.

    Searchers come in ascending order, and the images between two atoms in descending order, ascending as seen
    from the other side: each centre's pairs arrive sorted by (j, shift), without comparisons.
    """
    cdef int64_t atom = 0, h, p
    cdef int32_t centre
    cdef int k
    for h in range(ends[grid.n_atoms - 1]):
        while h >= ends[atom]:
            atom += 1
        centre = hits[h].atom
        p = cursors[centre]
        cursors[centre] = p + 1
        j[p] = <int32_t> atom
        for k in range(3):
            shifts[3 * p + k] = grid.wraps[3 * centre + k] - grid.wraps[3 * atom + k] - hits[h].image[k]


cdef void lay_bins(Grid *grid, const double *heights) noexcept nogil:
    """Choose bins somewhat smaller than the radius, but not many more than atoms; `heights`: extents perpendicular to the faces."""
    cdef int k, widest
    cdef Vector count
    for k in range(3):
        count[k] = BINS_PER_RADIUS_IN_ROW if k == 2 else BINS_PER_RADIUS
        count[k] = max(floor(count[k] * heights[k] / grid.radius), 1.0)
    while count[0] * count[1] * count[2] > max(4.0 * grid.n_atoms, 8.0):
        widest = 0 if count[0] >= count[1] and count[0] >= count[2] else (1 if count[1] >= count[2] else 2)
        count[widest] = ceil(count[widest] / 2)
    for k in range(3):
        grid.count[k] = <int> count[k]
        # room for the rounding of fractional coordinates; without periods nothing is beyond the last bin
        grid.reach[k] = count[k] * (grid.radius / heights[k] + 1e-7) if heights[k] > 0 else 1.0
        if not grid.periodic[k]:
            grid.reach[k] = min(grid.reach[k], count[k])


cdef void invert(const double *cell, double *inverse) noexcept nogil:
    """Inverse (3, 3): its columns are the normals of the cell's faces."""
    cdef int k, m, b, c
    cdef double volume
    for k in range(3):
        b, c = 3 * ((k + 1) % 3), 3 * ((k + 2) % 3)
        for m in range(3):
            inverse[3 * m + k] = (cell[b + (m + 1) % 3] * cell[c + (m + 2) % 3]
                                  - cell[b + (m + 2) % 3] * cell[c + (m + 1) % 3])
    volume = cell[0] * inverse[0] + cell[1] * inverse[3] + cell[2] * inverse[6]
    for k in range(9):
        inverse[k] /= volume


cdef bint place_atoms(Grid *grid, const double *positions) noexcept nogil:
    """Wrap atoms along periodic directions, lay bins over them; False if atoms or images are too far away."""
    cdef int64_t i
    cdef int k, m
    cdef double f, farthest = 0.0
    cdef int32_t wrap
    cdef double inverse[9]
    cdef Vector low, extent, heights
    invert(grid.cell, inverse)
    for k in range(3):
        low[k], extent[k] = (0.0, 1.0) if grid.periodic[k] else (1e300, -1e300)
    for i in range(grid.n_atoms):
        for k in range(3):
            wrap, farthest = 0, max(farthest, fabs(positions[3 * i + k]))
            f = 0.0
            for m in range(3):
                f += positions[3 * i + m] * inverse[3 * m + k]
            if grid.periodic[k]:
                if fabs(f) > MOST_WRAPS:
                    return False
                wrap = <int32_t> floor(f)
            else:
                low[k], extent[k] = min(low[k], f), max(extent[k], f)
            grid.wraps[3 * i + k], grid.where[3 * i + k] = wrap, f - wrap
    # pairs at exactly the radius are left to the caller: margin for the rounding of wrapped positions
    grid.radius = grid.radius * (1 + 1e-10) + 1e-14 * farthest
    for k in range(3):
        if not grid.periodic[k]:
            extent[k] -= low[k]
        heights[k] = extent[k] / sqrt(inverse[k] ** 2 + inverse[3 + k] ** 2 + inverse[6 + k] ** 2)
        if grid.periodic[k] and grid.radius > MOST_IMAGES * heights[k]:
            return False
    lay_bins(grid, heights)
    for i in range(grid.n_atoms):
        for k in range(3):
            f = (grid.where[3 * i + k] - low[k]) / extent[k] if extent[k] > 0 else 0.0
            grid.where[3 * i + k] = f * grid.count[k]
    return True


cdef void fill_bins(Grid *grid, const double *positions, int64_t n_bins) noexcept nogil:
    """Counting sort of atoms by bin: contiguous memory for the search."""
    cdef int64_t i
    cdef int32_t slot
    cdef int k, m, home
    for i in range(grid.n_atoms):
        grid.homes[i] = 0
        for k in range(3):
            home = min(max(<int> grid.where[3 * i + k], 0), grid.count[k] - 1)
            grid.homes[i] = grid.homes[i] * grid.count[k] + home
        for m in range(3):
            grid.wrapped[3 * i + m] = positions[3 * i + m]
            for k in range(3):
                grid.wrapped[3 * i + m] -= grid.wraps[3 * i + k] * grid.cell[3 * k + m]
        grid.starts[grid.homes[i]] += 1
    for i in range(1, n_bins + 1):
        grid.starts[i] += grid.starts[i - 1]
    for i in range(grid.n_atoms - 1, -1, -1):  # from the ends of the bins to their starts
        slot = grid.starts[grid.homes[i]] - 1
        grid.starts[grid.homes[i]] = slot
        grid.members[slot] = <int32_t> i
        for k in range(3):
            grid.ordered[3 * slot + k] = grid.wrapped[3 * i + k]


def find_candidates(
    const double[:, ::1] positions,  # IN (n_atoms, 3) A
    const double[:, ::1] cell,  # IN (3, 3) A, never flat
    tuple periodic,  # IN (3) bool
    double radius,
    int64_t most_neighbours,  # average number of neighbours of an atom at which the search stops
):
    """Offsets (n_atoms + 1), j (n_pairs), shifts (n_pairs, 3) of all pairs within `radius`, canonical order.

    None if atoms are more than 1e7 cells away from the origin, or the radius spans more than 30000 cells. OverflowError, before
    memory is taken for them, if there are more neighbours than that.
    """
    cdef int64_t n_atoms = positions.shape[0], n_bins, atom
    cdef double[:, :, ::1] places = np.empty((3, n_atoms, 3))
    cdef int32_t[:, ::1] indices = np.empty((5, n_atoms), np.int32)
    cdef int64_t[:, ::1] bounds = np.zeros((2, n_atoms + 1), np.int64)  # where hits end; where pairs begin
    cdef int32_t[::1] starts, j
    cdef int32_t[:, ::1] shifts
    cdef Grid grid
    cdef Hits hits = [NULL, 0, 0, most_neighbours * n_atoms, False]
    cdef int k, found
    for k in range(3):
        grid.periodic[k] = periodic[k]
    grid.n_atoms, grid.radius, grid.cell = n_atoms, radius, &cell[0, 0]
    grid.where, grid.wrapped, grid.ordered = &places[0, 0, 0], &places[1, 0, 0], &places[2, 0, 0]
    grid.homes, grid.members, grid.wraps = &indices[0, 0], &indices[1, 0], &indices[2, 0]
    if not place_atoms(&grid, &positions[0, 0]):
        return None
    n_bins = <int64_t> grid.count[0] * grid.count[1] * grid.count[2]
    starts = np.zeros(n_bins + 1, np.int32)
    grid.starts = &starts[0]
    try:
        with nogil:
            fill_bins(&grid, &positions[0, 0], n_bins)
            found = search_all(&grid, &hits, &bounds[0, 0], &bounds[1, 1])
            for atom in range(n_atoms):
                bounds[1, atom + 1] += bounds[1, atom]
        if hits.too_many:
            raise OverflowError(f"more than {most_neighbours} neighbours per atom")
        if not found:
            raise MemoryError(f"no memory for the neighbours of {n_atoms} atoms within {radius} A")
        offsets = np.array(bounds[1])
        j, shifts = np.empty(hits.n, np.int32), np.empty((hits.n, 3), np.int32)
        if hits.n:
            with nogil:
                transpose(&grid, hits.items, &bounds[0, 0], &bounds[1, 0], &j[0], &shifts[0, 0])
        return offsets, np.asarray(j), np.asarray(shifts)
    finally:
        free(hits.items)


def largest_displacement(
    const double[:, ::1] old,  # IN (n_atoms, 3) A
    const double[:, ::1] new,  # IN (n_atoms, 3) A
    const double[:, ::1] deformation,  # IN (3, 3)
):
    """max |u - <u>| in A for u = new - old @ deformation: a common drift is not a displacement."""
    cdef Py_ssize_t i, n_atoms = old.shape[0]
    cdef int k, sweep
    cdef double u, squared, largest = 0.0
    cdef Vector mean = [0.0, 0.0, 0.0]
    with nogil:
        for sweep in range(2):  # the mean, then the distances from it
            for i in range(n_atoms):
                squared = 0.0
                for k in range(3):
                    u = new[i, k] - (old[i, 0] * deformation[0, k] + old[i, 1] * deformation[1, k]
                                     + old[i, 2] * deformation[2, k])
                    if sweep == 0:
                        mean[k] += u / n_atoms
                    else:
                        squared += (u - mean[k]) ** 2
                largest = max(largest, squared)
    return sqrt(largest)


def pairs_within(
    const double[:, ::1] positions,  # IN (n_atoms, 3) A, as the user gave them
    const double[:, ::1] cell,  # IN (3, 3) A
    const int64_t[::1] offsets,  # IN (n_atoms + 1) candidates of each centre
    const int32_t[::1] j,  # IN (n_candidates)
    const int32_t[:, ::1] shifts,  # IN (n_candidates, 3)
    double cutoff,
):
    """The candidates within `cutoff`: offsets, i, j, shifts, vectors (A), distances (A), in their order.

    All lists pass through here, so that the vector of a pair is bitwise the same however the pair was found.
    """
    cdef int64_t n = j.shape[0], p, kept = 0
    cdef Py_ssize_t n_atoms = positions.shape[0], a
    cdef int64_t[::1] out_offsets = np.zeros(n_atoms + 1, np.int64)
    cdef int32_t[::1] out_i = np.empty(n, np.int32), out_j = np.empty(n, np.int32)
    cdef int32_t[:, ::1] out_shifts = np.empty((n, 3), np.int32)
    cdef double[:, ::1] vectors = np.empty((n, 3))
    cdef double[::1] distances = np.empty(n)
    cdef Vector v
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
    return (np.asarray(out_offsets), np.asarray(out_i)[:kept], np.asarray(out_j)[:kept],
            np.asarray(out_shifts)[:kept], np.asarray(vectors)[:kept], np.asarray(distances)[:kept])
