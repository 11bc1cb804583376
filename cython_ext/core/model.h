/* A model in memory: the tables of its file or of the caller, and the structs of the loops that point to them. */
#ifndef MLPOT_MODEL_H
#define MLPOT_MODEL_H

#include "feature_maps.h"
#include "mlpot_core.h"
#include "mlpot_tables.h"
#include "model_file.h"
#include "pair_sums.h"
#include "triplets.h"

/* Largest number of neighbours of one centre: the number of their triplets must fit an int. */
#define MLPOT_MOST_NEIGHBOURS 30000

enum { SOAP_TERM, PAIR_TERM, TRIPLET_TERM, FEATURE_TERM, N_TERM_KINDS };
/* SUMS: the sums behind an ensemble's uncertainty only, completed by the program that loaded the tables. */
enum { NO_UNCERTAINTY, INDEPENDENT, ENSEMBLE, SUMS, N_UNCERTAINTIES };

/* Centres of one element in a many-body term. */
typedef struct {
    int32_t number;              /* atoms that count as this element */
    /* of a SOAP_TERM */
    mlpot_density density;
    mlpot_contractions contractions;
    double norms[(MLPOT_MAX_L + 1) * (MLPOT_MAX_L + 2) / 2];
    /* of a FEATURE_TERM */
    mlpot_feature_map map;
    int is_linear;               /* whether it has `linear` in place of `kernels` */
    mlpot_linear_model linear;
    /* of both */
    mlpot_kernel_model kernels;
    mlpot_members members;
    int n_before, lone;          /* representatives of other terms, the leading columns of its triangles; a 1 before them */
    const int32_t *before;       /* (n_before) */
} many_body_part;

typedef struct {
    int kind, n_species;
    int32_t *index;              /* (n_species of the model) place of each of its elements in this term */
    int n_parts;
    many_body_part *parts;
    int n_sources;               /* of a FEATURE_TERM */
    mlpot_source *sources;
    int64_t n_values;
    const double *prior;         /* (n_species) variances, eV^2 */
    mlpot_pair_term pair;
    mlpot_pair_members members;  /* along == NULL: none */
    mlpot_triplets triplets;
    mlpot_triplet_variance variance; /* spread == NULL: none */
} model_term;

/* Cubic pieces, from the highest power on; linear beyond both ends. */
typedef struct {
    int n;                       /* knots */
    const double *x, *pieces;    /* (n), (4, n - 1) */
} spline;

typedef struct {
    int32_t first, second;       /* places of elements */
    spline curve;
} glue_pair;

typedef struct {
    const double *energies;      /* (n_species) eV */
    const double *zbl, *radii;   /* NULL: no repulsion; see model_baseline.c */
    const double *scales, *reaches; /* (n_species) NULL: no tabulated potential */
    spline *embeddings;          /* (n_species) n == 0: none */
    int n_pairs;
    glue_pair *pairs;
} model_baseline;

/* Representatives of pair terms alone. */
typedef struct {
    int n;
    const int32_t *columns;
    const double *triangles;     /* (2, n, n) */
} pair_representatives;

typedef struct {
    int kind;
    int n_terms, n_pair_terms, n; /* terms with representatives, pair terms first; representatives */
    int pairs_count;             /* whether variances of pair terms count */
    const int32_t *terms, *starts; /* (n_terms) first column of each among all representatives */
    const double *upper;         /* (n, n) */
    const double *reals;         /* see enum */
    const double *expected, *known, *noises, *factors, *floors, *growths, *radii; /* (n_species) */
    const int32_t *is_lone;      /* (n_species) */
    const double *lone;          /* (n_species, n) */
    pair_representatives *alone; /* (n_species) without many-body terms */
} model_uncertainty;

enum { ENERGY_SCALE, STRESS_SCALE, ENERGY_NOISE, VIRIAL_NOISE, SHARE, SYMMETRIC, DECAY, CANCELLED, REACH, REGULARISATION, N_REALS };

typedef struct block_of_memory {
    struct block_of_memory *next;
} block_of_memory;

static inline int is_many_body(const model_term *t) { return t->kind == SOAP_TERM || t->kind == FEATURE_TERM; }

struct mlpot_model {
    unsigned char *bytes;        /* the file; NULL: the tables are the caller's */
    block_of_memory *blocks;     /* all other memory that it owns */
    double cutoff;
    int n_species, n_terms;
    const int32_t *species, *counts_as; /* (n_species) atomic numbers */
    int16_t index[128];          /* place of an atomic number among species, -1 */
    model_term *terms;
    model_baseline baseline;
    model_uncertainty uncertainty;
};

/* Quantities computed from a neighbour list. */
typedef struct {
    const mlpot_model *model;
    const mlpot_input *input;
    int64_t n_pairs;
    int32_t *species;            /* (n_atoms) places among the model's species */
    int32_t *term_species;       /* (n_atoms) places in the term in hand */
    int32_t *centres;            /* (n_centres) of the element in hand */
    double *distances;           /* (n_pairs) */
    double *energies;            /* (n_centres) */
    double *gradients;           /* (n_pairs, 3) */
    /* NULL unless wanted; the last two for an ensemble only */
    double *variances;           /* (n_centres) prior variances, or unexplained variances of instances, eV^2 */
    double *explained;           /* (n_centres, 2) */
    double *covariances;         /* (n_centres, n representatives) */
    mlpot_member_sums members;
    int failed;                  /* memory was short */
    int status;                  /* MLPOT_BAD_ARGUMENT where a term refuses the structure, with a line of text */
    char *error;
    size_t error_size;
    int n_owned;
    void *owned[9];              /* arrays to free */
} evaluation;

/* Zeroed, cache-aligned memory with the lifetime of the model; NULL, and an error in the reader, if out of memory. */
void *mlpot_take(mlpot_model *m, mlpot_reader *r, size_t n, size_t size);
int mlpot_read_soap(mlpot_model *m, mlpot_reader *r, model_term *t);
int mlpot_read_features(mlpot_model *m, mlpot_reader *r, model_term *t);
/* Number of sums of a source, or -1. */
int64_t mlpot_read_source(mlpot_model *m, mlpot_reader *r, int n_species, mlpot_source *s);
/* Parts of all many-body terms, whose centres have n_features features. */
void mlpot_read_points(mlpot_reader *r, many_body_part *p, int n_features);
const int32_t *mlpot_read_member_weights(mlpot_reader *r, many_body_part *p, int n_features);
void mlpot_read_spread(mlpot_reader *r, many_body_part *p);
/* Grows the reader's prefix; the length before. */
size_t mlpot_enter(mlpot_reader *r, const char *format, int k);
int mlpot_read_pair(mlpot_model *m, mlpot_reader *r, model_term *t);
int mlpot_read_triplets(mlpot_reader *r, model_term *t);
int mlpot_read_baseline(mlpot_model *m, mlpot_reader *r);
int mlpot_read_uncertainty(mlpot_model *m, mlpot_reader *r);
/* The section `sizes` of counts; the first word of a section otherwise. */
const int32_t *mlpot_sizes(mlpot_reader *r, const char *name, int64_t count);
/* A table's grid that never reads beyond n_knots for places from 0 to `farthest`; 0 or -1. */
int mlpot_read_grid(mlpot_reader *r, double start, double step, int n_knots, int kink, double farthest, mlpot_grid *grid);
/* Tables in the order of mlpot_pack for tiles, and of mlpot_pack_lower. */
const double *mlpot_packed_rows(mlpot_reader *r, const char *name, int n_rows, int n_columns);
const double *mlpot_packed_triangles(mlpot_reader *r, const char *name, int n_triangles, int n);

/* Writes a line of text and returns the status. */
int mlpot_say(char *error, size_t error_size, int status, const char *format, ...) __attribute__((format(printf, 4, 5)));
void mlpot_add_terms(evaluation *e);
void mlpot_add_baseline(const model_baseline *b, evaluation *e);
void mlpot_report_uncertainty(const evaluation *e, mlpot_uncertainty *u);

#endif
