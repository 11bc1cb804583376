/* The core of mlpot: density expansion, power spectrum, sparse kernel energies and their pullbacks. Plain C11, no
 * Python, no globals: an MD code can compile it as it stands. Double precision; angstrom and eV.
 *
 *   c[l,m,q] = sum_j f[z_j,q,l](r_j) Y_lm(r_j/|r_j|)             f: tables, Y: real spherical harmonics
 *   p[(a,b),l] = s_ab / sqrt(2l+1) sum_m c[l,m,a] c[l,m,b]       s = 1 for a = b, sqrt(2) otherwise
 *   e = sum_s w_s energy_scale^2 (p.p_s / |p||p_s|)^zeta
 *
 * SIMD: lanes are channels in the expansion, neighbours in the harmonics, centres in everything after it. */
#ifndef MLPOT_CORE_H
#define MLPOT_CORE_H

#include <stddef.h>
#include <stdint.h>

#define MLPOT_LANES 8
#define MLPOT_MAX_L 20
/* Centres treated together between two matrix products: what they need stays in the L2 cache. */
#define MLPOT_BLOCK 64

typedef double mlpot_v8 __attribute__((vector_size(64), aligned(64)));

/* One binary for a mixed cluster: the loader picks the widest instruction set the processor has. It must ask for
 * features, not for models: GCC does not know the name of every processor that has AVX-512. */
#if defined(__x86_64__) && defined(__ELF__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define MLPOT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MLPOT_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define MLPOT_CLONES
#endif
#define MLPOT_INLINE static inline __attribute__((always_inline))

/* Fortran dgemm: the caller's BLAS. */
typedef void mlpot_dgemm(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *,
                         double *, int *);

/* What the expansion and the power spectrum are: tables only, shared by all threads. */
typedef struct {
    int n_species;           /* species of neighbours and centres */
    int l_max;
    int n_channels;          /* padded: a multiple of MLPOT_LANES */
    int n_groups;            /* blocks of channels that species fill */
    const int32_t *group;    /* (n_species) block that a neighbour of this species fills */
    const int32_t *first;    /* (n_groups) first channel of a block, a multiple of MLPOT_LANES */
    const int32_t *width;    /* (n_groups) channels in a block, a multiple of MLPOT_LANES */
    double cutoff;           /* A */
    double start, step;      /* first knot and spacing of the tables, A */
    int n_intervals, kink;   /* the knot `kink` is stored twice: the curvature may jump there */
    const double *tables;    /* knots (n_intervals + 2, 3, l_max + 1, width) of each species, one after the other */
    const int64_t *table_of; /* (n_species) where a species' knots begin */
    const double *self;      /* (n_species, n_channels) the centre's own density, already times Y_00 */
    int n_couplings;         /* channel pairs (a,b) of the power spectrum */
    const int32_t *channel_a, *channel_b; /* (n_couplings) */
    const double *coupling;  /* (n_couplings, l_max + 1) s_ab / sqrt(2l+1) */
    double constant;         /* appended to the normalised features (GAP's covariance_sigma0); 0: absent */
    const double *harmonics; /* (l_max+1)(l_max+2)/2 normalisation of Y_lm, from mlpot_harmonics_norms */
} mlpot_density;

/* Neighbours of all centres: a full list sorted by centre. */
typedef struct {
    const int32_t *species;  /* (n_atoms) index into the density's species */
    const int32_t *j;        /* (n_pairs) */
    const int64_t *offsets;  /* (n_atoms + 1) */
    const double *vectors;   /* (n_pairs, 3) A */
    const double *distances; /* (n_pairs) A */
} mlpot_pairs;

/* Sparse points and weights of one species of centres. */
typedef struct {
    int n_sparse;
    const double *features;  /* (n_sparse, n_features) normalised, the constant appended */
    const double *weights;   /* (n_sparse) */
    double energy_scale;     /* eV */
    double zeta;
} mlpot_kernel_model;

/* Scratch of one thread. */
typedef struct {
    int capacity;            /* neighbours it has room for, a multiple of MLPOT_LANES */
    int n;                   /* neighbours of the centre in hand */
    int32_t *pair;           /* (capacity) index of the pair, sorted by group of channels */
    int *group_end;          /* (n_groups) */
    int radial_stride;       /* (l_max + 1) * widest block */
    double *unit;            /* (capacity/8, 3, 8) unit vectors */
    double *radial, *slope;  /* (capacity, radial_stride) */
    double *ylm;             /* (capacity/8, n_harmonics, 8) */
    double *grad;            /* (capacity/8, n_harmonics, 3, 8) gradients of the solid harmonics */
    double *c;               /* (n_harmonics, n_channels) one centre */
    void *memory;
} mlpot_scratch;

static inline int mlpot_n_harmonics(const mlpot_density *d) { return (d->l_max + 1) * (d->l_max + 1); }
static inline int mlpot_n_invariants(const mlpot_density *d) { return d->n_couplings * (d->l_max + 1); }
static inline int mlpot_n_features(const mlpot_density *d) { return mlpot_n_invariants(d) + (d->constant > 0.0); }

/* scratch.c: 0 on success, -1 when memory is short. */
int mlpot_scratch_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, mlpot_scratch *s);
void mlpot_scratch_free(mlpot_scratch *s);
void *mlpot_aligned(size_t n_doubles);
void mlpot_gather_neighbours(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s);

/* harmonics.c */
void mlpot_harmonics_norms(int l_max, double *norms);
void mlpot_harmonics(const double *norms, int l_max, int n, const double *unit, double *ylm);
void mlpot_harmonics_gradients(const double *norms, int l_max, int n, const double *unit, double *ylm, double *grad);

/* radial.c: tables of the neighbours in hand -> s->radial (and s->slope) */
void mlpot_radial(const mlpot_density *d, const mlpot_pairs *p, mlpot_scratch *s);
void mlpot_radial_slopes(const mlpot_density *d, const mlpot_pairs *p, mlpot_scratch *s);

/* expansion.c: c (n_harmonics, n_channels) of one centre; its pullback ADDS to pair_gradients (n_pairs, 3) */
void mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s, double *c);
void mlpot_expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t centre, mlpot_scratch *s,
                      const double *dc, double *pair_gradients);

/* power_spectrum.c: eight centres in lanes; features (n_features, stride), stride >= 8 */
void mlpot_power_spectrum(const mlpot_density *d, const double *c_lanes, double *features, ptrdiff_t stride);
void mlpot_power_spectrum_vjp(const mlpot_density *d, const double *c_lanes, const double *cotangent,
                              ptrdiff_t stride, double *dc_lanes);
/* features (n_invariants, stride) -> features / norm for n centres; norms (stride); and the pullback, in place */
void mlpot_normalise(int n_invariants, int n, ptrdiff_t stride, double *features, double *norms);
void mlpot_normalise_vjp(int n_invariants, int n, ptrdiff_t stride, const double *features, const double *norms,
                         double *cotangent);

/* Memory of one block of up to MLPOT_BLOCK centres. */
typedef struct {
    double *c_lanes;         /* (MLPOT_BLOCK/8, n_harmonics, n_channels, 8) */
    double *dc_lanes;        /* (n_harmonics, n_channels, 8) */
    double *features;        /* (n_features, MLPOT_BLOCK) normalised */
    double *norms;           /* (MLPOT_BLOCK) */
    double *cotangent;       /* (n_features, MLPOT_BLOCK) */
    double *kernel, *slope;  /* (n_sparse, MLPOT_BLOCK) */
    mlpot_scratch scratch;
} mlpot_block;

/* blocks.c: features of n <= MLPOT_BLOCK centres; the pullback consumes b->cotangent and ADDS to pair_gradients. */
int mlpot_block_create(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int n_sparse, mlpot_block *b);
void mlpot_block_free(mlpot_block *b);
void mlpot_block_features(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, mlpot_block *b);
void mlpot_block_vjp(const mlpot_density *d, const mlpot_pairs *p, int n, const int32_t *centres, mlpot_block *b,
                     double *pair_gradients);

/* energies.c, threads over blocks. Energies of the centres, ADDED to energies (n_atoms); gradients added to
 * pair_gradients; covariances with the sparse points into covariances[centre * stride + s] unless NULL.
 * 0, or -1 when memory is short. */
int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                         int64_t n_centres, const int32_t *centres, int n_threads, mlpot_dgemm *dgemm,
                         double *energies, double *pair_gradients, double *covariances, int64_t covariance_stride);

/* Features of centres, normalised (n_centres, n_features), and their pullback (one thread), added to pair_gradients. */
int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                   const int32_t *centres, int n_threads, double *features);
int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, const double *cotangent, double *pair_gradients);

/* rows.c: rows of a design matrix for one structure, one thread; each pointer ADDED to, forces/virial may be NULL.
 * energy (n_sparse), forces (3 n_atoms, stride), virial (9, stride). 0, or -1: memory. */
int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                      int64_t n_centres, const int32_t *centres, mlpot_dgemm *dgemm, double *energy, double *forces,
                      double *virial, int64_t stride);

#endif
