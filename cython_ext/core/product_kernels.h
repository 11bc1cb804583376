/* Products of a packed matrix with panels of MLPOT_PANEL centres, in registers; included once per precision with REAL,
 * VECTOR, PARTS (vectors in a panel) and NAME(). ROWS x SIDE accumulators fill the registers of the instruction set:
 * 24 of 32 with AVX-512, 12 of 16 with AVX2 and SSE2.
 *
 * BLAS is slower here, since it repacks the sparse points for every block of centres. */
#if MLPOT_LANES == 8
#define ROWS 12
#define SIDE (PARTS < 2 ? PARTS : 2)
#else
#define ROWS 6
#define SIDE 2
#endif
#define WIDTH ((int)(sizeof(VECTOR) / sizeof(REAL)))

typedef struct {
    VECTOR v[ROWS][SIDE];
} NAME(accumulators);

/* Start from the present values, or (NULL) from zero. */
MLPOT_INLINE void NAME(begin)(NAME(accumulators) *s, const REAL *from)
{
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int p = 0; p < SIDE; ++p)
            s->v[i][p] = from ? *(const VECTOR *)(from + i * MLPOT_PANEL + p * WIDTH) : (VECTOR){0};
}

MLPOT_INLINE void NAME(store)(const NAME(accumulators) *s, REAL *to)
{
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int p = 0; p < SIDE; ++p) *(VECTOR *)(to + i * MLPOT_PANEL + p * WIDTH) = s->v[i][p];
}

/* += numbers a, `apart` from each other, times a row b of the panel */
MLPOT_INLINE void NAME(multiply_add)(NAME(accumulators) *s, const REAL *a, const int apart, const REAL *b)
{
    VECTOR v[SIDE];
#pragma GCC unroll 4
    for (int p = 0; p < SIDE; ++p) v[p] = *(const VECTOR *)(b + p * WIDTH);
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int p = 0; p < SIDE; ++p) s->v[i][p] += a[i * apart] * v[p];
}

/* y (MLPOT_TILE, MLPOT_PANEL) = a tile of rows (columns, MLPOT_TILE) times x (columns, MLPOT_PANEL), or +=; an even number
 * of columns */
MLPOT_INLINE void NAME(tile_times)(const int add, const REAL *tile, int n_columns, const REAL *x, REAL *y)
{
    for (int row = 0; row < MLPOT_TILE; row += ROWS)
        for (int part = 0; part < PARTS; part += SIDE) {
            const REAL *a = tile + row, *b = x + part * WIDTH;
            REAL *out = y + row * MLPOT_PANEL + part * WIDTH;
            NAME(accumulators) s;
            NAME(begin)(&s, add ? out : NULL);
            for (int k = 0; k < n_columns; k += 2, a += 2 * MLPOT_TILE, b += 2 * MLPOT_PANEL) {
                NAME(multiply_add)(&s, a, 1, b); /* two at a time: loop counters compete with multiplications for execution ports */
                NAME(multiply_add)(&s, a + MLPOT_TILE, 1, b + MLPOT_PANEL);
            }
            NAME(store)(&s, out);
        }
}

static void NAME(product)(const REAL *tile, int n_columns, const REAL *x, REAL *y)
{
    NAME(tile_times)(0, tile, n_columns, x, y);
}

static void NAME(add_product)(const REAL *tile, int n_columns, const REAL *x, REAL *y)
{
    NAME(tile_times)(1, tile, n_columns, x, y);
}

/* y (MLPOT_TILE, MLPOT_PANEL) += MLPOT_TILE columns of n_tiles tiles, transposed, times x (n_tiles * MLPOT_TILE,
 * MLPOT_PANEL); `packed` points at the first of the columns, tiles are `apart` */
static void NAME(transposed_product)(const REAL *packed, ptrdiff_t apart, int n_tiles, const REAL *x, REAL *y)
{
    for (int column = 0; column < MLPOT_TILE; column += ROWS)
        for (int part = 0; part < PARTS; part += SIDE) {
            const REAL *a = packed + column * MLPOT_TILE, *b = x + part * WIDTH;
            REAL *out = y + column * MLPOT_PANEL + part * WIDTH;
            NAME(accumulators) s;
            NAME(begin)(&s, out);
            for (int t = 0; t < n_tiles; ++t, a += apart)
                for (int r = 0; r < MLPOT_TILE; ++r, b += MLPOT_PANEL) NAME(multiply_add)(&s, a + r, MLPOT_TILE, b);
            NAME(store)(&s, out);
        }
}

#undef ROWS
#undef SIDE
#undef WIDTH
