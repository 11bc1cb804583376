/* Packing of matrices in the order of the products, and other tables computed once. */
#include <math.h>
#include <string.h>

#include "mlpot_tables.h"

size_t mlpot_packed_size(int width, int n_rows, int n_columns)
{
    return (size_t)mlpot_round_up(n_rows, width) * mlpot_round_up(n_columns, MLPOT_TILE);
}

static void pack_tile(int width, int row, int n_rows, int n_columns, ptrdiff_t stride, const double *matrix,
                      double *tile)
{
    const int rows = n_rows - row < width ? n_rows - row : width;
    for (int i = 0; i < rows; ++i)
        for (int k = 0; k < n_columns; ++k) tile[(ptrdiff_t)k * width + i] = matrix[(row + i) * stride + k];
}

void mlpot_pack(int width, int n_rows, int n_columns, const double *matrix, double *packed)
{
    const ptrdiff_t apart = (ptrdiff_t)mlpot_round_up(n_columns, MLPOT_TILE) * width;
    memset(packed, 0, sizeof(double) * mlpot_packed_size(width, n_rows, n_columns));
    for (int row = 0; row < n_rows; row += width, packed += apart)
        pack_tile(width, row, n_rows, n_columns, n_columns, matrix, packed);
}

size_t mlpot_packed_lower_size(int n)
{
    const size_t n_tiles = mlpot_round_up(n, MLPOT_TILE) / MLPOT_TILE;
    return n_tiles * (n_tiles + 1) / 2 * MLPOT_TILE * MLPOT_TILE;
}

void mlpot_pack_lower(int n, const double *matrix, double *packed)
{
    memset(packed, 0, sizeof(double) * mlpot_packed_lower_size(n));
    for (int row = 0; row < n; row += MLPOT_TILE) {
        const int columns = row + MLPOT_TILE;
        pack_tile(MLPOT_TILE, row, n, columns < n ? columns : n, n, matrix, packed);
        packed += (ptrdiff_t)columns * MLPOT_TILE;
    }
}

void mlpot_harmonics_norms(int l_max, double *norms)
{
    const double pi = 3.14159265358979323846;
    for (int l = 0; l <= l_max; ++l) {
        double ratio = 1.0; /* (l-m)! / (l+m)! */
        for (int m = 0; m <= l; ++m) {
            if (m) ratio /= (double)(l + m) * (l - m + 1);
            const double sign = m % 2 ? -1.0 : 1.0;
            norms[l * (l + 1) / 2 + m] = sign * sqrt((m ? 2.0 : 1.0) * (2 * l + 1) / (4 * pi) * ratio);
        }
    }
}
