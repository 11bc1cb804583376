/* The core of mlpot: density expansion, power spectrum, sparse kernel energies and their pullbacks. Plain C11, no
 * Python, no globals except for the choice of instruction set: an MD code can compile the .c files unmodified. Double
 * precision unless a model asks for single; angstrom and eV.
 *
 *   c[l,m,q] = sum_j f[z_j,q,l](r_j) Y_lm(r_j/|r_j|)             f: tables, Y: real spherical harmonics
 *   p[(a,b),l] = s_ab / sqrt(2l+1) sum_m c[l,m,a] c[l,m,b]       s = 1 for a = b, sqrt(2) otherwise
 *   A[l,m,s] = sum_q shares[l,s,q] c[l,m,q],  B = invariant polynomials of one A: additional features, which come first
 *   e = sum_s w_s energy_scale^2 k(p.p_s / |p||p_s|)             k(s) = s^zeta, or exp((s - 1) / length_scale^2)
 *   |G k|^2 for every triangle G,  k_s = energy_scale^2 k(p.p_s / |p||p_s|)
 *   members of an ensemble: the same energy with other weights, its pair gradients only
 *
 * Everything behind this header is compiled once per instruction set (isa_*.c) and chosen at run time (dispatch.c). */
#ifndef MLPOT_TABLES_H
#define MLPOT_TABLES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MLPOT_MAX_L 20
/* Channels are padded to a multiple of this: whole vectors of every instruction set. */
#define MLPOT_CHANNELS 8
/* Rows of a packed matrix processed in one pass of a product. */
#define MLPOT_TILE 12
/* Columns processed in one pass: two cache lines, whole vectors of every instruction set. */
#define MLPOT_PANEL 16
/* Members of an ensemble of weights; divides MLPOT_PANEL. */
#define MLPOT_MEMBERS 8

/* A quintic Hermite table: knots k at start + k / per_step, the knot `kink` stored twice: the curvature may jump there. */
typedef struct {
    double start, per_step;  /* first knot, A; knots per angstrom */
    int n_intervals, kink;   /* n_intervals + 2 knots are stored */
} mlpot_grid;

/* Contractions of more than two densities, of mixtures of channels with themselves. Nodes are A and products of earlier
 * nodes; the derivative dB_t/dA_x of invariant t is a row: a sum of coefficients times nodes. */
typedef struct {
    int l_max, n_mixed, n_nodes, n_features;
    const double *shares;    /* (l_max + 1, n_mixed, n_channels) */
    const int32_t *left, *right; /* (n_nodes - n_lm) factors of the nodes behind the A */
    const int32_t *rows;     /* (n_invariants + 1) first row of every invariant */
    const int32_t *variable; /* (n_rows) x = l^2 + l + m, ascending for each invariant */
    const int32_t *entries;  /* (n_rows + 1) first entry of every row */
    const int32_t *node;     /* (n_entries) */
    const double *coefficient; /* (n_entries) */
    const int32_t *degree;   /* (n_invariants) densities in each */
    const int32_t *mixed, *invariant; /* (n_features) what is computed, by mixed density */
    const double *scale;     /* (n_features) factor of each relative to the power spectrum */
} mlpot_contractions;

/* Definition of the expansion and the invariants: tables only, shared by all threads. */
typedef struct {
    int n_species;           /* species of neighbours and centres */
    int l_max;
    int n_channels;          /* padded: a multiple of MLPOT_CHANNELS */
    int n_groups;            /* blocks of channels that species fill */
    const int32_t *group;    /* (n_species) block that a neighbour of this species fills */
    const int32_t *first;    /* (n_groups) first channel of a block, a multiple of MLPOT_CHANNELS */
    const int32_t *width;    /* (n_groups) channels in a block, a multiple of MLPOT_CHANNELS */
    double cutoff;           /* A */
    mlpot_grid grid;         /* of the tables */
    int n_radial;            /* columns of the table: of a block, or of what is mixed; a multiple of MLPOT_CHANNELS */
    const double *table;     /* knots (n_intervals + 2, 3, l_max + 1, n_radial) of all species */
    const double *mixing;    /* (n_species, n_radial, n_channels) parts in the channels of the only block; NULL: the table's
                              * columns are the channels of a block */
    const double *self;      /* (n_species, n_channels) the centre's own density, already times Y_00 */
    const mlpot_contractions *contractions; /* NULL: none */
    int n_spectrum;          /* entries of the power spectrum */
    const int32_t *degree, *channel_a, *channel_b; /* (n_spectrum) l and the two channels */
    const double *coupling;  /* (n_spectrum) s_ab / sqrt(2l+1) */
    double constant;         /* appended to the normalised features (GAP's covariance_sigma0); 0: absent */
    const double *harmonics; /* (l_max+1)(l_max+2)/2 normalisation of Y_lm, from mlpot_harmonics_norms */
} mlpot_density;

/* Covariants of two densities, which rotate as spherical harmonics of degree `order`:
 *   q[m, f] = scale_f sum_{m1 m2} C(l1 m1 l2 m2 | order m) c[l1 m1, a_f] c[l2 m2, b_f]. */
typedef struct {
    int l_max, n_channels;   /* of the density */
    int order;               /* lambda */
    int n_features, n_runs;
    const int32_t *runs;     /* (n_runs, 6) coupling; first channels a and b; step of a, 0 or 1 (b's is 1); length; first feature */
    const int32_t *couplings; /* (n_couplings + 1) first entry of every pair of degrees */
    const int32_t *entries;  /* (n_entries, 3) m, and l^2 + l + m of both densities */
    const double *values;    /* (n_entries) C */
    const double *scale;     /* (n_features) */
} mlpot_covariants;

/* Neighbours of all centres: a full list sorted by centre. */
typedef struct {
    const int32_t *species;  /* (n_atoms) index into the density's species */
    const int32_t *j;        /* (n_pairs) */
    const int64_t *offsets;  /* (n_atoms + 1) */
    const double *vectors;   /* (n_pairs, 3) A */
    const double *distances; /* (n_pairs) A */
} mlpot_pairs;

/* Points with which a centre's features overlap; features normalised, the constant appended. */
typedef struct {
    int n;
    double energy_scale;     /* eV */
    double zeta;             /* of the polynomial kernel s^zeta of overlaps s, */
    double per_square;       /* or 1 / length_scale^2 of the Gaussian kernel exp((s - 1) / length_scale^2); 0: polynomial */
    const double *weights;   /* (n rounded up to MLPOT_TILE), the rest 0; NULL where only covariances are wanted */
    int n_double;            /* leading features in double precision, a multiple of MLPOT_TILE */
    const double *packed;    /* from mlpot_pack with MLPOT_TILE: (n, n_double) */
    const float *single;     /* the other features, packed likewise in single precision; NULL where there are none */
} mlpot_points;

/* Sparse points of one species of centres, for the rows of a design matrix. */
typedef struct {
    int n;
    double energy_scale;     /* eV */
    double zeta;
    const double *panels;    /* from mlpot_pack with MLPOT_PANEL: (n, n_features), the constant appended */
} mlpot_sparse;

/* An ensemble of weights of the known points. Rows are the pairs of degree and channel on which the leading features depend,
 * by degree, then channel. */
typedef struct {
    int n_features;          /* leading features used by the ensemble, a multiple of MLPOT_TILE */
    int n_axes;              /* directions of all features that quadratic forms of them depend on, a multiple of MLPOT_TILE; 0: sums
                              * over the known points instead */
    const float *axes;       /* as from mlpot_pack with MLPOT_TILE: (n_axes, n_features of the density) */
    const float *forms;      /* (MLPOT_MEMBERS) likewise (n_axes, n_axes), or (n_features, n_axes) without `back` */
    const float *back;       /* likewise (n_features, n_axes): dE/dp = back forms axes p; NULL: dE/dp = forms axes p */
    const double *packed;    /* without axes, from mlpot_pack with MLPOT_TILE: (known.n, n_features) */
    const double *weights;   /* (known.n rounded up to MLPOT_TILE, MLPOT_MEMBERS) the rest 0 */
    const int32_t *rows;     /* (l_max + 2) first row of every degree */
    const int32_t *group_rows; /* (l_max + 1, n_groups + 1) first row of a group's channels */
    const int32_t *channel;  /* (n_rows) */
    const int32_t *entries;  /* (n_rows + 1) first entry of every row */
    const int32_t *feature;  /* (n_entries) a feature that the row has a part in, */
    const int32_t *partner;  /* (n_entries) the row of its other channel, counted within the degree, */
    const float *coupling;   /* (n_entries) and its coupling, twice where both are the same */
    const double *residual;  /* NULL, or (n_features, MLPOT_MEMBERS) linear functions z of the normalised features, which every
                              * member gets times the root of the unexplained variance, prior - |G k|^2 - expected of the first G */
    double prior, expected;  /* eV^2 */
} mlpot_members;

/* The energy of one species of centres, and its uncertainty. */
typedef struct {
    mlpot_points energy;     /* sparse points and weights, or fewer points that give the same energies */
    mlpot_points known;      /* points for covariances; packed == energy.packed where they are the first of those */
    int n_other;             /* points of other terms, first in `spread` */
    int n_spreads;
    const double *spread;    /* (n_spreads) G from mlpot_pack_lower, (n_other + known.n)^2 each */
    const mlpot_members *members; /* NULL: no ensemble */
} mlpot_kernel_model;

/* Where derivatives of the members' energies go: dE/dvectors of all pairs, or forces and the virial; what is NULL is not wanted. */
typedef struct {
    float *gradients;        /* (n_pairs, 3, MLPOT_MEMBERS) added to */
    double *forces;          /* (n_atoms, 3, MLPOT_MEMBERS) added to, */
    double *virial;          /* (9, MLPOT_MEMBERS) together with these */
} mlpot_member_sums;

/* Output arrays; all but the first two may be NULL. */
typedef struct {
    double *energies;        /* (n_atoms) added to */
    double *pair_gradients;  /* (n_pairs, 3) added to */
    double *explained;       /* (n_atoms, n_spreads) |G k|^2 added; needs `spread` */
    mlpot_member_sums members; /* needs an ensemble */
    const double *other;     /* (n_atoms, other_stride) covariances with the n_other points */
    int64_t other_stride;
    double *covariances;     /* (n_atoms, covariance_stride) covariances with known points, written */
    int64_t covariance_stride;
} mlpot_results;

static inline int mlpot_round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline int mlpot_n_harmonics(const mlpot_density *d) { return (d->l_max + 1) * (d->l_max + 1); }
static inline int mlpot_n_contracted(const mlpot_density *d) { return d->contractions ? d->contractions->n_features : 0; }
static inline int mlpot_n_invariants(const mlpot_density *d) { return mlpot_n_contracted(d) + d->n_spectrum; }
static inline int mlpot_n_features(const mlpot_density *d) { return mlpot_n_invariants(d) + (d->constant > 0.0); }

/* packing.c. Rows of a (n_rows, n_columns) matrix -> tiles of `width` rows (MLPOT_TILE or MLPOT_PANEL), column by column;
 * padded with 0 to whole tiles, and to a multiple of MLPOT_TILE columns. */
size_t mlpot_packed_size(int width, int n_rows, int n_columns);
void mlpot_pack(int width, int n_rows, int n_columns, const double *matrix, double *packed);
/* A lower triangle (n, n): tile t holds its columns up to the diagonal. */
size_t mlpot_packed_lower_size(int n);
void mlpot_pack_lower(int n, const double *matrix, double *packed);
void mlpot_harmonics_norms(int l_max, double *norms);

/* Instruction set of everything below: 0 baseline, 1 AVX2 and FMA, 2 AVX-512; -1: the best available one (default).
 * Returns the one in use, which the processor always supports. Must not be called while another thread computes. */
int mlpot_instructions(int level);

/* All return 0, or -1 if out of memory. Threads process blocks of centres and write to separate memory: results are
 * bitwise identical for any number of threads.
 *
 * Expansion coefficients (n_centres, n_harmonics, n_channels). */
int mlpot_expand(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                 const int32_t *centres, double *coefficients);
/* Features (n_centres, n_features), normalised; and, with one thread, these with their pullback, ADDED to pair_gradients. */
int mlpot_features(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                   const int32_t *centres, int n_threads, double *features);
int mlpot_features_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                       const int32_t *centres, const double *cotangent, double *features, double *pair_gradients);
/* Energies, gradients and uncertainty of centres of one species. */
int mlpot_local_energies(const mlpot_density *d, const mlpot_pairs *p, const mlpot_kernel_model *m, int64_t n_atoms,
                         int64_t n_centres, const int32_t *centres, int n_threads, const mlpot_results *r);
/* Rows of a design matrix for one structure and centres of one species, one thread; each pointer ADDED to, forces and
 * virial may be NULL: energy (n), forces (3 n_atoms, stride), virial (9, stride). */
int mlpot_design_rows(const mlpot_density *d, const mlpot_pairs *p, const mlpot_sparse *sparse, int64_t n_atoms,
                      int64_t n_centres, const int32_t *centres, double *energy, double *forces, double *virial,
                      int64_t stride);

/* Covariants (n_centres, 2 order + 1, n_features) of coefficients as from mlpot_expand. */
int mlpot_covariants_of(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_threads, double *out);
/* Their pullback, ADDED to dc (n_centres, n_out, n_harmonics, n_channels). With order > 0, output o is a sum over row o of the
 * covariants, n_out = 2 order + 1; with order 0 all outputs are sums over the only row. Cotangents (n_centres, n_out, n_features),
 * or, shared by all outputs, (n_centres, n_features). */
int mlpot_covariants_vjp(const mlpot_covariants *t, int64_t n_centres, const double *c, int n_out, int is_shared,
                         const double *cotangent, int n_threads, double *dc);
/* Pullback of the expansion for several outputs, ADDED to pair_gradients (n_out, n_pairs, 3). */
int mlpot_expand_vjp(const mlpot_density *d, const mlpot_pairs *p, int64_t n_atoms, int64_t n_centres,
                     const int32_t *centres, int n_out, const double *dc, int n_threads, double *pair_gradients);

#ifdef __cplusplus
}
#endif

#endif
