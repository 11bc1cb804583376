/* A fitted model of mlpot in C and C++: energies, forces, virials, and how sure the model is of them.
 *
 * In Python: model.export_core("model.mlpot"). Then, with every .c file of this folder compiled by gcc or clang (-std=gnu11
 * -O3, and -fopenmp where several threads are wanted; there are no other dependencies but libm) and linked to your program:
 *
 *     #include "mlpot_core.h"
 *
 *     char error[512];
 *     mlpot_model *model = mlpot_load("model.mlpot", error, sizeof error);
 *     if (!model) { fprintf(stderr, "%s\n", error); return 1; }
 *     mlpot_input in = {sizeof in};                 // C++: mlpot_input in{}; in.size = sizeof in;
 *     in.n_centres = n_local;                       // atoms whose energies are wanted: the first ones
 *     in.n_atoms = n_local + n_ghost;               // ghosts come behind them
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
 * Neighbours: all that are nearer than mlpot_cutoff; those beyond it (a skin) cost time and change nothing. A periodic image is an
 * atom of its own (a ghost), or the atom itself with another vector, whichever the program has. Ghosts have no neighbours here,
 * and energies only on the process where they are centres.
 *
 * Units: A, eV. Forces are -dE/dr, virials -dE/dstrain (the sum of r_j F_j). All numbers are double precision.
 *
 * Uncertainty under domain decomposition takes three steps, as an atom's force has parts on several processes:
 *
 *     1. mlpot_evaluate with out.uncertainty set: parts that belong to centres, and member_forces (n_atoms, 3, MLPOT_MEMBERS):
 *        add those of ghosts to the atoms they are images of (reverse communication, as of forces).
 *     2. mlpot_deviations: energies_std and forces_std of the centres, each by itself, and `owed` (n_centres): copy it to the
 *        ghosts (forward communication).
 *     3. mlpot_share_deviations: raises forces_std of atoms beside uncertain ones of other elements.
 *
 * For the structure as a whole add up covariances, member_virial and the unexplained variances over all processes, then
 * mlpot_total_deviations. With a single process, and images that are ghosts, the same steps are copies within one array.
 *
 * A model is not changed by any call but mlpot_free: threads may share it. Results do not depend on n_threads, not in the last bit.
 * Of the structs the first member is the size that the caller knows them with: later versions append members. */
#ifndef MLPOT_CORE_H
#define MLPOT_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 100 * major + minor of this interface; a program was compiled with this number and runs with that of mlpot_version(). */
#define MLPOT_CORE_VERSION 100
/* Members of the ensemble that forces get their uncertainty from. */
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
    int n_threads;               /* 1 without OpenMP, and under MPI as a rule */
} mlpot_input;

/* Parts of the uncertainty; all arrays are the caller's and are overwritten. An imported potential (GAP) has posterior and
 * unexplained only, and sets the others to 0. */
typedef struct {
    size_t size;                 /* sizeof(mlpot_uncertainty) */
    double *posterior;           /* (n_centres) what the data leave open of local energies, eV^2 */
    double *unexplained;         /* (n_centres) what the sparse points do not explain, eV^2 */
    double *novelty;             /* (n_centres) from 1.5 on an environment is unlike all that the model knows */
    double *strongest;           /* (n_centres) strongest force of a neighbour, eV/A */
    double *crowding;            /* (n_centres) how many neighbours share what an atom owes */
    double *member_forces;       /* (n_atoms, 3, MLPOT_MEMBERS) eV/A, ghosts too */
    double *covariances;         /* (mlpot_n_representatives) of the centres' energy, eV^2 */
    double member_virial[9 * MLPOT_MEMBERS]; /* (9, MLPOT_MEMBERS) eV */
} mlpot_uncertainty;

/* Arrays are the caller's and are overwritten; NULL: not wanted. */
typedef struct {
    size_t size;                 /* sizeof(mlpot_output) */
    double *energies;            /* (n_centres) eV; never NULL */
    double *forces;              /* (n_atoms, 3) eV/A */
    double *pair_gradients;      /* (n_pairs, 3) dE/dvectors, eV/A */
    double *virials;             /* (n_centres, 9) of each local energy, eV */
    mlpot_uncertainty *uncertainty;
    double virial[9];            /* of the centres' energies, xx xy xz yx ..., symmetric, eV; always written */
} mlpot_output;

/* MLPOT_CORE_VERSION of the library. */
int mlpot_version(void);

/* Instruction set: 0 baseline, 1 AVX2 and FMA, 2 AVX-512; -1: the best there is, as at first. Returns the one in use, which is
 * never more than the processor has. Not while another thread computes. */
int mlpot_instructions(int level);

/* A model from a file that export_core wrote; NULL, and a line of text, where the file is missing, damaged, truncated, of another
 * version or byte order, or holds anything that a model cannot. `error` may be NULL. */
mlpot_model *mlpot_load(const char *path, char *error, size_t error_size);
void mlpot_free(mlpot_model *model); /* NULL is allowed */

/* Largest distance at which atoms interact, A. */
double mlpot_cutoff(const mlpot_model *model);
/* How many elements it knows, and their atomic numbers, ascending. */
int mlpot_n_species(const mlpot_model *model);
const int32_t *mlpot_species(const mlpot_model *model);
/* Length of `covariances`: 0 for an imported potential, -1 where the file has no uncertainty. */
int mlpot_n_representatives(const mlpot_model *model);

/* All return MLPOT_OK, or another status and a line of text in `error`, which may be NULL. */
int mlpot_evaluate(const mlpot_model *model, const mlpot_input *in, mlpot_output *out, char *error, size_t error_size);

/* From the parts of a structure's centres, member_forces complete: calibrated standard deviations of the local energies
 * (n_centres), eV, and of the forces by themselves (n_centres, 3), eV/A; `owed` (n_centres), (eV/A)^2, for step 3. forces_std and
 * owed may both be NULL, and are for an imported potential, whose forces have no deviations: MLPOT_NO_UNCERTAINTY otherwise. */
int mlpot_deviations(const mlpot_model *model, const mlpot_input *in, const mlpot_uncertainty *parts, double *energies_std,
                     double *forces_std, double *owed, char *error, size_t error_size);
/* With `owed` (n_atoms), ghosts too: forces_std (n_centres, 3) of step 2 become those of mlpot's `predict`. */
int mlpot_share_deviations(const mlpot_model *model, const mlpot_input *in, const double *owed, double *forces_std, char *error,
                           size_t error_size);
/* Of a structure of n_atoms (all processes) from sums over all its centres: covariances, unexplained variance, and
 * member_virial, which may be NULL together with virial_std (9), eV. energy_std: one number, eV. */
int mlpot_total_deviations(const mlpot_model *model, int64_t n_atoms, const double *covariances, double unexplained,
                           const double *member_virial, double *energy_std, double *virial_std, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
