/* The only place that defines the sign of forces and virials.
 *
 * A pair's vector is r_j + S.cell - r_i, and g = dE/d(vector):
 * dE/dr_j = g, dE/dr_i = -g, dE/dstrain = vector (outer) g.
 * Rows may have many columns: one for a potential, one per sparse point for a design matrix. */
#ifndef MLPOT_PAIR_GRADIENTS_H
#define MLPOT_PAIR_GRADIENTS_H

#include <stddef.h>
#include <stdint.h>

/* forces (3 n_atoms, stride) += -dE/dr; gradient row x of the pair begins at gradient + x * apart */
#define ADD_PAIR_FORCES(name, real)                                                                              \
    static inline void name(int64_t i, int64_t j, ptrdiff_t n_columns, const real *gradient, ptrdiff_t apart,    \
                            double *forces, ptrdiff_t stride)                                                    \
    {                                                                                                            \
        for (int x = 0; x < 3; ++x) {                                                                            \
            const real *row = gradient + x * apart;                                                              \
            double *on_i = forces + (3 * i + x) * stride, *on_j = forces + (3 * j + x) * stride;                 \
            for (ptrdiff_t k = 0; k < n_columns; ++k) on_i[k] += row[k];                                         \
            for (ptrdiff_t k = 0; k < n_columns; ++k) on_j[k] -= row[k];                                         \
        }                                                                                                        \
    }
ADD_PAIR_FORCES(mlpot_add_pair_forces, double)
ADD_PAIR_FORCES(mlpot_add_pair_forces_single, float)

/* forces (n_atoms, n_columns) += those of n pairs of centre i, by index, from gradients (n, n_columns); columns are x, y, z of
 * everything in turn, n_columns <= 32 */
static inline void mlpot_add_centre_forces(int64_t i, int n, const int32_t *pairs, const int32_t *neighbours, const int n_columns,
                                           const float *gradients, double *forces)
{
    double own[32] = {0};
    for (int k = 0; k < n; ++k, gradients += n_columns) {
        double *on_j = forces + (int64_t)neighbours[pairs[k]] * n_columns;
        for (int c = 0; c < n_columns; ++c) own[c] += gradients[c];
        for (int c = 0; c < n_columns; ++c) on_j[c] -= gradients[c];
    }
    for (int c = 0; c < n_columns; ++c) forces[i * n_columns + c] += own[c];
}

/* virial (9, n_columns) += of sums (6, n_columns) of vectors times gradients: xx, yy, zz, then yz + zy, xz + zx, xy + yx */
static inline void mlpot_add_column_virials(int n_columns, const double *sums, double *virial)
{
    for (int k = 0; k < n_columns; ++k)
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b)
                virial[(3 * a + b) * n_columns + k] -= (a == b ? 1.0 : 0.5) * sums[(a == b ? a : 6 - a - b) * n_columns + k];
}

/* virial (9, stride) += -dE/dstrain, symmetrised */
static inline void mlpot_add_pair_virial(const double *vector, ptrdiff_t n_columns, const double *gradient,
                                         ptrdiff_t apart, double *virial, ptrdiff_t stride)
{
    for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {
            const double *row_a = gradient + a * apart, *row_b = gradient + b * apart;
            double *out = virial + (3 * a + b) * stride;
            for (ptrdiff_t k = 0; k < n_columns; ++k)
                out[k] -= 0.5 * (vector[a] * row_b[k] + vector[b] * row_a[k]);
        }
    }
}

/* virial (9) += contributions of all pairs with one column of gradients, in order */
static inline void mlpot_add_virial(ptrdiff_t n_pairs, const double *vectors, const double *gradients, double *virial)
{
    double sums[9] = {0};
    for (ptrdiff_t p = 0; p < n_pairs; ++p)
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b) sums[3 * a + b] += vectors[3 * p + a] * gradients[3 * p + b];
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) virial[3 * a + b] -= 0.5 * (sums[3 * a + b] + sums[3 * b + a]);
}

/* virial (9, n_columns) += contributions of all pairs, in order, from gradients in single precision; n_columns <= 16 */
static inline void mlpot_add_virials_single(ptrdiff_t n_pairs, int n_columns, const double *vectors, const float *gradients,
                                            double *virial)
{
    double sums[9][16] = {{0}};
    for (ptrdiff_t p = 0; p < n_pairs; ++p)
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b)
                for (int k = 0; k < n_columns; ++k)
                    sums[3 * a + b][k] += vectors[3 * p + a] * gradients[(3 * p + b) * n_columns + k];
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
            for (int k = 0; k < n_columns; ++k)
                virial[(3 * a + b) * n_columns + k] -= 0.5 * (sums[3 * a + b][k] + sums[3 * b + a][k]);
}

#endif
