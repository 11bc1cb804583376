"""Density expansion, power spectrum and sparse-kernel energies: typed memoryviews over the C core.

Everything here trusts its arguments: shapes and values are checked by mlpot/descriptors/density.py.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t
from scipy.linalg.cython_blas cimport dgemm

from core cimport (
    mlpot_density, mlpot_design_rows, mlpot_dgemm, mlpot_expand, mlpot_features, mlpot_features_vjp,
    mlpot_harmonics_norms, mlpot_kernel_model, mlpot_local_energies, mlpot_n_features, mlpot_n_harmonics,
    mlpot_pairs, mlpot_scratch, mlpot_scratch_create, mlpot_scratch_free,
)

LANES = 8
MAX_L = 20


cdef inline const double *address(const double[::1] array) noexcept:
    return &array[0] if array.shape[0] else NULL


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
        self.view.species = &species[0]
        self.view.j = &j[0] if j.shape[0] else NULL
        self.view.offsets = &offsets[0]
        self.view.vectors = &vectors[0, 0] if j.shape[0] else NULL
        self.view.distances = address(distances)


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
        double start,
        double step,
        int n_intervals,
        int kink,
        const double[::1] tables,  # IN knots (n_intervals + 2, 3, l_max + 1, width) of all species
        const int64_t[::1] table_of,  # IN (n_species)
        const double[:, ::1] self_coefficients,  # IN (n_species, n_channels)
        const int32_t[::1] channel_a,  # IN (n_couplings)
        const int32_t[::1] channel_b,  # IN (n_couplings)
        const double[:, ::1] coupling,  # IN (n_couplings, l_max + 1)
        double constant,
    ):
        cdef int l_max = coupling.shape[1] - 1
        cdef double[::1] norms = np.empty((l_max + 1) * (l_max + 2) // 2)
        cdef double[::1] knots = _aligned_copy(tables)
        mlpot_harmonics_norms(l_max, &norms[0])
        self.owners = (group, first, width, knots, table_of, self_coefficients, channel_a, channel_b, coupling, norms)
        self.d.n_species = group.shape[0]
        self.d.l_max = l_max
        self.d.n_channels = n_channels
        self.d.n_groups = first.shape[0]
        self.d.group = &group[0]
        self.d.first = &first[0]
        self.d.width = &width[0]
        self.d.cutoff = cutoff
        self.d.start = start
        self.d.step = step
        self.d.n_intervals = n_intervals
        self.d.kink = kink
        self.d.tables = &knots[0]
        self.d.table_of = &table_of[0]
        self.d.self = &self_coefficients[0, 0]
        self.d.n_couplings = channel_a.shape[0]
        self.d.channel_a = &channel_a[0]
        self.d.channel_b = &channel_b[0]
        self.d.coupling = &coupling[0, 0]
        self.d.constant = constant
        self.d.harmonics = &norms[0]

    @property
    def n_features(self):
        return mlpot_n_features(&self.d)

    def expand(self, PairView pairs, const int32_t[::1] centres):
        """Expansion coefficients (n_centres, n_harmonics, n_channels), channels padded."""
        cdef int n_lm = mlpot_n_harmonics(&self.d)
        cdef double[:, :, ::1] c = np.empty((centres.shape[0], n_lm, self.d.n_channels))
        cdef double[::1] one = _aligned(n_lm * self.d.n_channels)
        cdef mlpot_scratch scratch
        cdef Py_ssize_t k
        if mlpot_scratch_create(&self.d, &pairs.view, pairs.n_atoms, &scratch):
            raise MemoryError
        try:
            for k in range(centres.shape[0]):
                mlpot_expand(&self.d, &pairs.view, centres[k], &scratch, &one[0])
                np.asarray(c[k]).ravel()[:] = one
        finally:
            mlpot_scratch_free(&scratch)
        return np.asarray(c)

    def features(self, PairView pairs, const int32_t[::1] centres, int n_threads):
        """Normalised features (n_centres, n_features)."""
        cdef int failed
        cdef double[:, ::1] out = np.zeros((centres.shape[0], self.n_features))
        if not centres.shape[0]:
            return np.asarray(out)
        with nogil:
            failed = mlpot_features(&self.d, &pairs.view, pairs.n_atoms, centres.shape[0], &centres[0], n_threads,
                                    &out[0, 0])
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
        """Pullback of `features`."""
        cdef int failed
        if not centres.shape[0] or not pair_gradients.shape[0]:
            return
        with nogil:
            failed = mlpot_features_vjp(&self.d, &pairs.view, pairs.n_atoms, centres.shape[0], &centres[0],
                                        &cotangent[0, 0], &pair_gradients[0, 0])
        if failed:
            raise MemoryError

    def local_energies(
        self,
        PairView pairs,
        const int32_t[::1] centres,
        const double[:, ::1] sparse_features,  # IN (n_sparse, n_features)
        const double[::1] weights,  # IN (n_sparse)
        double energy_scale,
        double zeta,
        double[::1] energies,  # OUT (n_atoms), added to
        double[:, ::1] pair_gradients,  # OUT (n_pairs, 3), added to
        double[:, :] covariances,  # OUT (n_atoms, n_sparse) or None
        int n_threads,
    ):
        """Energies of centres of one species, their pair gradients, and their covariances with the sparse points."""
        cdef mlpot_kernel_model model = kernel_model(sparse_features, &weights[0], energy_scale, zeta)
        cdef double *rows = NULL
        cdef int64_t stride = 0
        cdef double *gradients = &pair_gradients[0, 0] if pair_gradients.shape[0] else NULL
        cdef int failed
        if not centres.shape[0]:
            return
        if covariances is not None:
            rows, stride = &covariances[0, 0], covariances.strides[0] // sizeof(double)
        with nogil:
            failed = mlpot_local_energies(&self.d, &pairs.view, &model, pairs.n_atoms, centres.shape[0], &centres[0],
                                          n_threads, <mlpot_dgemm *> dgemm, &energies[0], gradients, rows, stride)
        if failed:
            raise MemoryError

    def design_rows(
        self,
        PairView pairs,
        const int32_t[::1] centres,
        const double[:, ::1] sparse_features,  # IN (n_sparse, n_features)
        double energy_scale,
        double zeta,
        double[:] energy,  # OUT (n_sparse), added to
        double[:, :] forces,  # OUT (3 n_atoms, n_sparse) or None, added to
        double[:, :] virial,  # OUT (9, n_sparse) or None, added to
    ):
        """Covariances of a structure's energy, forces and virial with sparse points of one species."""
        cdef mlpot_kernel_model model = kernel_model(sparse_features, NULL, energy_scale, zeta)
        cdef double *force_rows = NULL
        cdef double *virial_rows = NULL
        cdef int64_t stride = 0
        cdef int failed
        if not centres.shape[0]:
            return
        if forces is not None:
            force_rows, stride = &forces[0, 0], forces.strides[0] // sizeof(double)
        if virial is not None:
            virial_rows, stride = &virial[0, 0], virial.strides[0] // sizeof(double)
        with nogil:
            failed = mlpot_design_rows(&self.d, &pairs.view, &model, pairs.n_atoms, centres.shape[0], &centres[0],
                                       <mlpot_dgemm *> dgemm, &energy[0], force_rows, virial_rows, stride)
        if failed:
            raise MemoryError


cdef mlpot_kernel_model kernel_model(const double[:, ::1] features, const double *weights, double energy_scale,
                                     double zeta) noexcept:
    cdef mlpot_kernel_model model
    model.n_sparse = features.shape[0]
    model.features = &features[0, 0]
    model.weights = weights
    model.energy_scale = energy_scale
    model.zeta = zeta
    return model


def _aligned(n):
    """(n,) zeros that begin on a cache line."""
    memory = np.zeros(n + LANES)
    begin = (-(memory.ctypes.data // memory.itemsize)) % LANES
    return memory[begin : begin + n]


def _aligned_copy(array):
    copy = _aligned(len(array))
    copy[:] = array
    return copy
