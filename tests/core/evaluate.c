/* Loads each file that it is given and evaluates three atoms beside two ghosts with it: "ok" and numbers, or "refused" and why. Compiles
 * as C and as C++. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlpot_core.h"

enum { CENTRES = 3, ATOMS = 5, PAIRS = 8 };

static double members[ATOMS * 3 * MLPOT_MEMBERS], of_centres[8][CENTRES], forces_std[CENTRES * 3], forces[ATOMS * 3];
static double gradients[PAIRS * 3], virials[CENTRES * 9], owed[ATOMS];

static int report(const char *what, const char *error)
{
    printf("%s %s\n", what, error);
    return 0;
}

static int evaluate(const mlpot_model *model)
{
    const double places[ATOMS][3] = {{0, 0, 0}, {0, 0, 2.3}, {2.1, 0, 0.4}, {0, 2.4, 0}, {0.3, -2.2, 0.2}};
    const int64_t offsets[CENTRES + 1] = {0, 4, 6, 8};
    const int32_t neighbours[PAIRS] = {1, 2, 3, 4, 0, 2, 0, 1};
    const int32_t *species = mlpot_species(model);
    int32_t numbers[ATOMS];
    double vectors[PAIRS * 3], energy_std = 0.0, virial_std[9];
    char error[512];
    mlpot_input in;
    mlpot_output out;
    mlpot_uncertainty parts;
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    memset(&parts, 0, sizeof parts);
    memset(forces_std, 0, sizeof forces_std);
    for (int i = 0; i < ATOMS; ++i) numbers[i] = species[i % mlpot_n_species(model)];
    for (int i = 0; i < CENTRES; ++i)
        for (int64_t p = offsets[i]; p < offsets[i + 1]; ++p)
            for (int x = 0; x < 3; ++x) vectors[3 * p + x] = places[neighbours[p]][x] - places[i][x];
    in.size = sizeof in;
    in.n_centres = CENTRES;
    in.n_atoms = ATOMS;
    in.numbers = numbers;
    in.offsets = offsets;
    in.neighbours = neighbours;
    in.vectors = vectors;
    in.n_threads = 1;
    out.size = sizeof out;
    out.energies = of_centres[0];
    out.forces = forces;
    out.pair_gradients = gradients;
    out.virials = virials;
    const int n = mlpot_n_representatives(model);
    if (mlpot_evaluate(model, &in, &out, error, sizeof error)) return report("refused", error);
    printf("ok %.17g %.17g %.17g\n", of_centres[0][0], forces[5], out.virial[0]);
    if (n < 0) return 0;
    parts.size = sizeof parts;
    parts.posterior = of_centres[1];
    parts.unexplained = of_centres[2];
    parts.novelty = of_centres[3];
    parts.strongest = of_centres[4];
    parts.crowding = of_centres[5];
    parts.member_forces = members;
    parts.covariances = (double *)calloc((size_t)n + 1, sizeof(double));
    out.uncertainty = &parts;
    int status = mlpot_evaluate(model, &in, &out, error, sizeof error);
    if (!status) status = mlpot_deviations(model, &in, &parts, of_centres[6], n ? forces_std : NULL, n ? owed : NULL, error, sizeof error);
    if (!status && n) status = mlpot_share_deviations(model, &in, owed, forces_std, error, sizeof error);
    if (!status)
        status = mlpot_total_deviations(model, CENTRES, parts.covariances, of_centres[2][0], n ? parts.member_virial : NULL, &energy_std,
                                        n ? virial_std : NULL, error, sizeof error);
    free(parts.covariances);
    if (status) return report("refused", error);
    printf("std %.17g %.17g %.17g\n", of_centres[6][0], forces_std[3], energy_std);
    return 0;
}

int main(int argc, char **argv)
{
    char error[512];
    if (mlpot_version() != MLPOT_CORE_VERSION) return 2;
    for (int k = 2; k < argc; ++k) {
        if (mlpot_instructions(atoi(argv[1])) != atoi(argv[1])) {
            printf("absent\n");
            continue;
        }
        mlpot_model *model = mlpot_load(argv[k], error, sizeof error);
        if (!model) report("refused", error);
        else evaluate(model);
        mlpot_free(model);
    }
    return 0;
}
