"""Forces and virial from pair gradients; mlpot/neighbours.py checks the arguments."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "pair_gradients.h" nogil:
    void mlpot_add_pair_forces(int64_t i, int64_t j, Py_ssize_t n_columns, const double *gradient,
                               Py_ssize_t apart, double *forces, Py_ssize_t stride)
    void mlpot_add_pair_forces_single(int64_t i, int64_t j, Py_ssize_t n_columns, const float *gradient,
                                      Py_ssize_t apart, double *forces, Py_ssize_t stride)
    void mlpot_add_pair_virial(const double *vector, Py_ssize_t n_columns, const double *gradient,
                               Py_ssize_t apart, double *virial, Py_ssize_t stride)
    void mlpot_add_virials_single(Py_ssize_t n_pairs, int n_columns, const double *vectors, const float *gradients,
                                  double *virial)
    void mlpot_add_virial(Py_ssize_t n_pairs, const double *vectors, const double *gradients, double *virial)


def add_forces(
    const int32_t[::1] i,  # IN (n_pairs)
    const int32_t[::1] j,  # IN (n_pairs)
    const double[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns)
    double[:, :, ::1] forces,  # OUT (n_atoms, 3, n_columns), added to
):
    """Forces from pair gradients, in the order of the pairs: the sum does not depend on threads."""
    cdef Py_ssize_t p, n_columns = pair_gradients.shape[2]
    with nogil:
        for p in range(i.shape[0] if n_columns else 0):
            mlpot_add_pair_forces(i[p], j[p], n_columns, &pair_gradients[p, 0, 0], n_columns,
                                  &forces[0, 0, 0], n_columns)


def add_forces_single(
    const int32_t[::1] i,  # IN (n_pairs)
    const int32_t[::1] j,  # IN (n_pairs)
    const float[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns)
    double[:, :, ::1] forces,  # OUT (n_atoms, 3, n_columns), added to
):
    """As `add_forces`, from gradients in single precision."""
    cdef Py_ssize_t p, n_columns = pair_gradients.shape[2]
    with nogil:
        for p in range(i.shape[0] if n_columns else 0):
            mlpot_add_pair_forces_single(i[p], j[p], n_columns, &pair_gradients[p, 0, 0], n_columns,
                                         &forces[0, 0, 0], n_columns)


def add_virial(
    const double[:, ::1] vectors,  # IN (n_pairs, 3)
    const double[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns)
    double[:, ::1] virial,  # OUT (9, n_columns), added to
):
    """Virial from pair gradients, in the order of the pairs."""
    cdef Py_ssize_t p, n_columns = pair_gradients.shape[2]
    if n_columns == 1 and vectors.shape[0]:
        mlpot_add_virial(vectors.shape[0], &vectors[0, 0], &pair_gradients[0, 0, 0], &virial[0, 0])
        return
    with nogil:
        for p in range(vectors.shape[0] if n_columns else 0):
            mlpot_add_pair_virial(&vectors[p, 0], n_columns, &pair_gradients[p, 0, 0], n_columns,
                                  &virial[0, 0], n_columns)


def add_virials_single(
    const double[:, ::1] vectors,  # IN (n_pairs, 3)
    const float[:, :, ::1] pair_gradients,  # IN (n_pairs, 3, n_columns), n_columns <= 16
    double[:, ::1] virial,  # OUT (9, n_columns), added to
):
    """As `add_virial`, from gradients in single precision."""
    cdef Py_ssize_t n_pairs = vectors.shape[0]
    if pair_gradients.shape[2] > 16:
        raise ValueError("no more than 16 columns in single precision")
    if n_pairs and pair_gradients.shape[2] == 8:
        with nogil:  # a constant that the compiler unrolls
            mlpot_add_virials_single(n_pairs, 8, &vectors[0, 0], &pair_gradients[0, 0, 0], &virial[0, 0])
    elif n_pairs:
        with nogil:
            mlpot_add_virials_single(n_pairs, <int>pair_gradients.shape[2], &vectors[0, 0], &pair_gradients[0, 0, 0],
                                     &virial[0, 0])
