/* Evaluation of fitted mlpot models in C and C++: energies, forces, virials, and their uncertainties.
 *
 * In Python: model.export_core("model.mlpot"). Then, with every .c file of this folder compiled by gcc or clang (-std=gnu11
 * -O3, and -fopenmp for several threads; the only dependency is libm) and linked to your program:
 *
 *     #include "mlpot_core.h"
 *
 *     char error[512];
 *     mlpot_model *model = mlpot_load("model.mlpot", error, sizeof error);
 *     if (!model) { fprintf(stderr, "%s\n", error); return 1; }
 *     mlpot_input in = {sizeof in};                 // C++: mlpot_input in{}; in.size = sizeof in;
 *     in.n_centres = n_local;                       // atoms whose energies are wanted: the first ones
 *     in.n_atoms = n_local + n_ghost;               // ghosts follow after them
 *     in.numbers = numbers;                         // (n_atoms) atomic numbers
 *     in.offsets = offsets;                         // (n_centres + 1) neighbours of centre i: offsets[i] to offsets[i + 1] - 1
 *     in.neighbours = neighbours;                   // (n_pairs) their indices, ghosts too: a full list
 *     in.vectors = vectors;                         // (n_pairs, 3) from the centre to the neighbour, A
 *     in.n_threads = 1;
 *     mlpot_output out = {sizeof out};
 *     out.energies = energies;                      // (n_centres) eV
 *     out.forces = forces;                          // (n_atoms, 3) eV/A, ghosts too: add theirs to the atoms they are images of
 *     if (mlpot_evaluate(model, &in, &out, error, sizeof error)) { fprintf(stderr, "%s\n", error); return 1; }
 *     printf("%g %g\n", energies[0], out.virial[0]);
 *     mlpot_free(model);
 *
 * Neighbours: all atoms closer than mlpot_cutoff; more distant ones (a skin) cost time but do not change the results. A periodic
 * image is either a separate atom (a ghost) or the atom itself with another vector, as the program prefers. Ghosts have no neighbours
 * here; their energies are computed on the process where they are centres.
 *
 * Units: A, eV. Forces are -dE/dr, virials -dE/dstrain (the sum of r_j F_j). All numbers are double precision.
 *
 * With domain decomposition the uncertainty takes three steps, since the force on an atom has contributions from several processes:
 *
 *     1. mlpot_evaluate with out.uncertainty set computes contributions of the centres, and member_forces (n_atoms, 3,
 *        MLPOT_MEMBERS): add member_forces of ghosts to the atoms of which they are images (reverse communication, as for forces).
 *     2. mlpot_deviations computes energies_std and forces_std of the centres independently, and `owed` (n_centres): copy it to
 *        the ghosts (forward communication).
 *     3. mlpot_share_deviations raises forces_std of atoms next to uncertain atoms of other elements.
 *
 * For totals of the structure, sum covariances, member_virial and the unexplained variances over all processes, then call
 * mlpot_total_deviations. With a single process and ghosts as images, the same steps are copies within one array.
 *
 * A program that holds the tables of a model itself, as Python does, passes them to mlpot_load_tables instead of a file. If it adds
 * terms of its own, it asks for out.sums in place of out.uncertainty, and computes the variances from these.
 *
 * No call except mlpot_free modifies a model, so threads may share it. Results are bitwise independent of n_threads.
 * The first member of each struct is its size as known to the caller: later versions append members. */
#ifndef MLPOT_CORE_H
#define MLPOT_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 100 * major + minor of this interface at compile time; mlpot_version() returns the number at run time. */
#define MLPOT_CORE_VERSION 102
/* Number of ensemble members, from which the uncertainty of forces is computed. */
#define MLPOT_MEMBERS 8

enum {
    MLPOT_OK = 0,
    MLPOT_BAD_ARGUMENT = 1,      /* sizes, indices, elements, numbers that are not finite, atoms that overlap */
    MLPOT_OUT_OF_MEMORY = 2,
    MLPOT_NO_UNCERTAINTY = 3     /* the file was exported without, or the model has none of this kind */
};

typedef struct mlpot_model mlpot_model;

typedef struct {
    size_t size;                 /* sizeof(mlpot_input) */
    int64_t n_centres, n_atoms;
    const int32_t *numbers;      /* (n_atoms) atomic numbers */
    const int64_t *offsets;      /* (n_centres + 1), from 0 on */
    const int32_t *neighbours;   /* (n_pairs) indices of atoms */
    const double *vectors;       /* (n_pairs, 3) A */
    int n_threads;               /* 1 without OpenMP, and usually under MPI */
} mlpot_input;

/* Parts of the uncertainty; all arrays are the caller's and are overwritten. An imported potential (GAP) has posterior and
 * unexplained only, and sets the others to 0. */
typedef struct {
    size_t size;                 /* sizeof(mlpot_uncertainty) */
    double *posterior;           /* (n_centres) posterior variances of local energies, eV^2 */
    double *unexplained;         /* (n_centres) variances not explained by the sparse points, eV^2 */
    double *novelty;             /* (n_centres) from 1.5 on, the environment differs from everything the model knows */
    double *strongest;           /* (n_centres) strongest force of a neighbour, eV/A */
    double *crowding;            /* (n_centres) number of neighbours that share the variance owed by an atom */
    double *member_forces;       /* (n_atoms, 3, MLPOT_MEMBERS) eV/A, ghosts too */
    double *covariances;         /* (mlpot_n_representatives) of the centres' energy, eV^2 */
    double member_virial[9 * MLPOT_MEMBERS]; /* (9, MLPOT_MEMBERS) eV */
} mlpot_uncertainty;

/* Sums from which the uncertainty follows, for a program that adds terms of its own. All arrays are the caller's and are added to;
 * NULL: not wanted. Columns of `covariances` with points of the program's own terms, which are not in the model, must be filled
 * before the call: the triangles of the model's last term go over all columns. */
typedef struct {
    size_t size;                 /* sizeof(mlpot_sums) */
    double *covariances;         /* (n_centres, mlpot_n_representatives) of local energies, eV^2; the model's own columns are written */
    double *explained;           /* (n_centres, 2) explained and posterior variances where the model's last term has triangles, eV^2 */
    double *variances;           /* (n_centres) prior variances, or unexplained variances of an imported potential, eV^2 */
    float *member_gradients;     /* (n_pairs, 3, MLPOT_MEMBERS) dE/dvectors of the members, eV/A; with what the points leave unexplained
                                  * only if `explained` and `covariances` are asked for */
    double *member_forces;       /* (n_atoms, 3, MLPOT_MEMBERS) likewise -dE/dr, ghosts too, eV/A; at half the cost of the gradients */
    double *member_virial;       /* (9, MLPOT_MEMBERS) together with these, eV */
} mlpot_sums;

/* Arrays are the caller's and are overwritten; NULL: not wanted. */
typedef struct {
    size_t size;                 /* sizeof(mlpot_output) */
    double *energies;            /* (n_centres) eV; never NULL */
    double *forces;              /* (n_atoms, 3) eV/A */
    double *pair_gradients;      /* (n_pairs, 3) dE/dvectors, eV/A */
    double *virials;             /* (n_centres, 9) of each local energy, eV */
    mlpot_uncertainty *uncertainty;
    mlpot_sums *sums;            /* instead of `uncertainty` */
    double virial[9];            /* of the centres' energies, xx xy xz yx ..., symmetric, eV; always written */
} mlpot_output;

/* MLPOT_CORE_VERSION of the library. */
int mlpot_version(void);

/* Instruction set: 0 baseline, 1 AVX2 and FMA, 2 AVX-512; -1: the best available one (default). Returns the one in use, which
 * the processor always supports. Must not be called while another thread computes. */
int mlpot_instructions(int level);

/* Load a model from a file written by export_core; NULL and a line of text if the file is missing, damaged, truncated, of another
 * version or byte order, or has invalid content. `error` may be NULL. */
mlpot_model *mlpot_load(const char *path, char *error, size_t error_size);

/* Types of numbers in a model. */
enum { MLPOT_DOUBLES = 1, MLPOT_INTEGERS = 2, MLPOT_FLOATS = 3 };
/* A named table of a model; names, counts and contents are those of the sections of a file. */
typedef struct {
    const char *name;            /* fewer than 40 characters */
    int type;
    int64_t count;
    const void *numbers;         /* (count) at a multiple of 64 bytes, even if there are none */
} mlpot_table;

/* As mlpot_load, from n tables in memory, with the same checks. The numbers are not copied: they must stay as they are until
 * mlpot_free. The names, and `tables` itself, are needed during the call only. */
mlpot_model *mlpot_load_tables(const mlpot_table *tables, size_t n, char *error, size_t error_size);
void mlpot_free(mlpot_model *model); /* NULL is allowed */

/* Largest distance at which atoms interact, A. */
double mlpot_cutoff(const mlpot_model *model);
/* Number of elements, and their atomic numbers in ascending order. */
int mlpot_n_species(const mlpot_model *model);
const int32_t *mlpot_species(const mlpot_model *model);
/* Length of `covariances`: 0 for an imported potential, -1 if the model was loaded without uncertainty. */
int mlpot_n_representatives(const mlpot_model *model);

/* All return MLPOT_OK, or another status and a line of text in `error`, which may be NULL. */
int mlpot_evaluate(const mlpot_model *model, const mlpot_input *in, mlpot_output *out, char *error, size_t error_size);

/* From the parts of a structure's centres, member_forces complete: calibrated standard deviations of the local energies
 * (n_centres), eV, and of the forces by themselves (n_centres, 3), eV/A; `owed` (n_centres), (eV/A)^2, for step 3. forces_std and
 * owed may both be NULL, and are for an imported potential, whose forces have no deviations: MLPOT_NO_UNCERTAINTY otherwise. */
int mlpot_deviations(const mlpot_model *model, const mlpot_input *in, const mlpot_uncertainty *parts, double *energies_std,
                     double *forces_std, double *owed, char *error, size_t error_size);
/* With `owed` (n_atoms), including ghosts: turns forces_std (n_centres, 3) of step 2 into the final ones, as in mlpot's `predict`. */
int mlpot_share_deviations(const mlpot_model *model, const mlpot_input *in, const double *owed, double *forces_std, char *error,
                           size_t error_size);
/* Totals for a structure of n_atoms (all processes), from sums over all its centres: covariances, unexplained variance, and
 * member_virial, which may be NULL together with virial_std (9), eV. energy_std: one number, eV. */
int mlpot_total_deviations(const mlpot_model *model, int64_t n_atoms, const double *covariances, double unexplained,
                           const double *member_virial, double *energy_std, double *virial_std, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
