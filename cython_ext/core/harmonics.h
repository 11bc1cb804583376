/* Real spherical harmonics of MLPOT_LANES directions at once, from solid harmonics in Cartesian form, no angles and no poles:
 *   R_lm = N_lm Q_l|m|(z, r^2) * { s_|m|, m < 0;  1, m = 0;  c_|m|, m > 0 },   c_m + i s_m = (x + iy)^m
 * Recurrences: Bigi, Fraux, Browning, Ceriotti, J. Chem. Phys. 159, 064802 (2023), doi:10.1063/5.0156307.
 * Gradients refer to the solid harmonics R_lm at |r| = 1, as needed by the pullback of the expansion. */
#pragma once
#include "vectors.h"

#define Q_SIZE ((MLPOT_MAX_L + 1) * (MLPOT_MAX_L + 2) / 2)
#define AT(l, m) ((l) * ((l) + 1) / 2 + (m))

typedef struct {
    mlpot_vector q[Q_SIZE], c[MLPOT_MAX_L + 1], s[MLPOT_MAX_L + 1];
} polynomial_values;

static const double INVERSE[] = {0,      1.0,      1. / 2,  1. / 3,  1. / 4,  1. / 5,  1. / 6,
                                 1. / 7,  1. / 8,  1. / 9,  1. / 10, 1. / 11, 1. / 12, 1. / 13,
                                 1. / 14, 1. / 15, 1. / 16, 1. / 17, 1. / 18, 1. / 19, 1. / 20};

MLPOT_INLINE void polynomials(int l_max, mlpot_vector x, mlpot_vector y, mlpot_vector z, polynomial_values *w)
{
    const mlpot_vector zero = {0};
    w->q[0] = zero + 1.0;
    w->c[0] = zero + 1.0;
    w->s[0] = zero;
    for (int m = 1; m <= l_max; ++m) {
        w->c[m] = x * w->c[m - 1] - y * w->s[m - 1];
        w->s[m] = x * w->s[m - 1] + y * w->c[m - 1];
        w->q[AT(m, m)] = -(2.0 * m - 1) * w->q[AT(m - 1, m - 1)];
        w->q[AT(m, m - 1)] = (2.0 * m - 1) * z * w->q[AT(m - 1, m - 1)];
    }
    for (int l = 2; l <= l_max; ++l)
        for (int m = 0; m < l - 1; ++m)
            w->q[AT(l, m)] = ((2.0 * l - 1) * z * w->q[AT(l - 1, m)] - (double)(l + m - 1) * w->q[AT(l - 2, m)])
                             * INVERSE[l - m];
}

MLPOT_INLINE void store_values(const double *norms, int l_max, const polynomial_values *w, mlpot_vector *out)
{
    for (int l = 0; l <= l_max; ++l) {
        mlpot_vector *y = out + l * l + l;
        y[0] = norms[AT(l, 0)] * w->q[AT(l, 0)];
        for (int m = 1; m <= l; ++m) {
            mlpot_vector q = norms[AT(l, m)] * w->q[AT(l, m)];
            y[m] = q * w->c[m];
            y[-m] = q * w->s[m];
        }
    }
}

static void harmonics(const double *norms, int l_max, int n, const double *unit, double *ylm)
{
    const mlpot_vector *u = (const mlpot_vector *)unit;
    mlpot_vector *out = (mlpot_vector *)ylm;
    polynomial_values w;
    for (int k = 0; k < n; k += MLPOT_LANES, u += 3, out += (l_max + 1) * (l_max + 1)) {
        polynomials(l_max, u[0], u[1], u[2], &w);
        store_values(norms, l_max, &w, out);
    }
}

/* d/dx Q_lm = x Q_(l-1)(m+1), d/dy likewise, d/dz Q_lm = (l+m) Q_(l-1)m; zero where the index does not exist. */
MLPOT_INLINE void store_gradients(const double *norms, int l_max, mlpot_vector x, mlpot_vector y, const polynomial_values *w,
                                  mlpot_vector *grad)
{
    const mlpot_vector zero = {0};
    for (int l = 0; l <= l_max; ++l) {
        for (int m = 0; m <= l; ++m) {
            double norm = norms[AT(l, m)];
            mlpot_vector q = norm * m * w->q[AT(l, m)];
            mlpot_vector side = m + 1 <= l - 1 ? norm * w->q[AT(l - 1, m + 1)] : zero;
            mlpot_vector up = m <= l - 1 ? norm * (double)(l + m) * w->q[AT(l - 1, m)] : zero;
            mlpot_vector *g = grad + 3 * (l * l + l + m);
            mlpot_vector c_below = m ? w->c[m - 1] : zero, s_below = m ? w->s[m - 1] : zero;
            g[0] = x * side * w->c[m] + q * c_below;
            g[1] = y * side * w->c[m] - q * s_below;
            g[2] = up * w->c[m];
            if (!m) continue;
            g = grad + 3 * (l * l + l - m);
            g[0] = x * side * w->s[m] + q * s_below;
            g[1] = y * side * w->s[m] + q * c_below;
            g[2] = up * w->s[m];
        }
    }
}

static void harmonics_gradients(const double *norms, int l_max, int n, const double *unit, double *ylm, double *grad)
{
    const mlpot_vector *u = (const mlpot_vector *)unit;
    mlpot_vector *values = (mlpot_vector *)ylm, *out = (mlpot_vector *)grad;
    const int n_lm = (l_max + 1) * (l_max + 1);
    polynomial_values w;
    for (int k = 0; k < n; k += MLPOT_LANES, u += 3, values += n_lm, out += 3 * n_lm) {
        polynomials(l_max, u[0], u[1], u[2], &w);
        store_values(norms, l_max, &w, values);
        store_gradients(norms, l_max, u[0], u[1], &w, out);
    }
}
