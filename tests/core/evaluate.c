/* Loads each file that it is given and evaluates three atoms beside two ghosts with it: "ok" and numbers, or "refused" and why. A file
 * that is not refused is loaded again as tables in memory, which must give the same bits: "differs" if not. Compiles as C and as C++. */
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

/* Three centres and two ghosts of the elements that the model knows. */
static mlpot_input structure(const mlpot_model *model)
{
    static const double places[ATOMS][3] = {{0, 0, 0}, {0, 0, 2.3}, {2.1, 0, 0.4}, {0, 2.4, 0}, {0.3, -2.2, 0.2}};
    static const int64_t offsets[CENTRES + 1] = {0, 4, 6, 8};
    static const int32_t neighbours[PAIRS] = {1, 2, 3, 4, 0, 2, 0, 1};
    static int32_t numbers[ATOMS];
    static double vectors[PAIRS * 3];
    mlpot_input in;
    memset(&in, 0, sizeof in);
    for (int i = 0; i < ATOMS; ++i) numbers[i] = mlpot_species(model)[i % mlpot_n_species(model)];
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
    return in;
}

/* Whether the model gives numbers. */
static int evaluate(const mlpot_model *model)
{
    double energy_std = 0.0, virial_std[9];
    char error[512];
    const mlpot_input in = structure(model);
    mlpot_output out;
    mlpot_uncertainty parts;
    memset(&out, 0, sizeof out);
    memset(&parts, 0, sizeof parts);
    memset(forces_std, 0, sizeof forces_std);
    out.size = sizeof out;
    out.energies = of_centres[0];
    out.forces = forces;
    out.pair_gradients = gradients;
    out.virials = virials;
    const int n = mlpot_n_representatives(model);
    if (mlpot_evaluate(model, &in, &out, error, sizeof error)) return report("refused", error);
    printf("ok %.17g %.17g %.17g\n", of_centres[0][0], forces[5], out.virial[0]);
    if (n < 0) return 1;
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
    return 1;
}

/* The sections of a file whose bytes are in memory. */
static mlpot_table *sections(const unsigned char *bytes, uint32_t *n)
{
    memcpy(n, bytes + 24, sizeof *n);
    mlpot_table *tables = (mlpot_table *)calloc((size_t)*n + 1, sizeof *tables);
    for (uint32_t k = 0; tables && k < *n; ++k) {
        const unsigned char *at = bytes + 64 * (size_t)(k + 1);
        uint64_t place[2];
        uint32_t type;
        memcpy(&type, at + 40, sizeof type);
        memcpy(place, at + 48, sizeof place);
        tables[k].name = (const char *)at;
        tables[k].type = (int)type;
        tables[k].count = (int64_t)place[1];
        tables[k].numbers = bytes + place[0];
    }
    return tables;
}

/* Whether tables in memory give the energies and the posterior variances of the file, which `evaluate` has left. */
static int same(const mlpot_model *model, const unsigned char *bytes)
{
    uint32_t n;
    char error[512];
    mlpot_table *tables = sections(bytes, &n);
    mlpot_model *other = mlpot_load_tables(tables, n, error, sizeof error);
    const int n_representatives = mlpot_n_representatives(model);
    double energies[CENTRES], explained[CENTRES][2] = {{0}}, variances[CENTRES] = {0};
    double *covariances = (double *)calloc((size_t)CENTRES * (n_representatives > 0 ? n_representatives : 0) + 1, sizeof(double));
    mlpot_sums sums;
    mlpot_output out;
    free(tables);
    if (!other) return report("differs", error);
    const mlpot_input in = structure(other);
    memset(&out, 0, sizeof out);
    memset(&sums, 0, sizeof sums);
    out.size = sizeof out;
    sums.size = sizeof sums;
    out.energies = energies;
    sums.covariances = covariances;
    sums.explained = explained[0];
    sums.variances = variances;
    if (n_representatives >= 0) out.sums = &sums;
    const int status = mlpot_evaluate(other, &in, &out, error, sizeof error);
    /* the unexplained variance is never negative, which harmful tables may make the sum */
    for (int i = 0; i < CENTRES; ++i)
        if (!(variances[i] > 0.0)) variances[i] = 0.0;
    if (status) report("differs", error);
    else if (memcmp(energies, of_centres[0], sizeof energies)) report("differs", "energies");
    else if (!n_representatives && memcmp(variances, of_centres[2], sizeof variances)) report("differs", "variances");
    free(covariances);
    mlpot_free(other);
    return 0;
}

/* The bytes of a file at an aligned address; NULL if it cannot be read. */
static unsigned char *content(const char *path)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    if (file && !fseek(file, 0, SEEK_END)) {
        const size_t size = (size_t)ftell(file);
        bytes = (unsigned char *)aligned_alloc(64, (size + 63) / 64 * 64);
        rewind(file);
        if (bytes && fread(bytes, 1, size, file) != size) bytes[0] = 0;
    }
    if (file) fclose(file);
    return bytes;
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
        unsigned char *bytes = model ? content(argv[k]) : NULL;
        if (!model) report("refused", error);
        else if (evaluate(model)) same(model, bytes);
        free(bytes);
        mlpot_free(model);
    }
    return 0;
}
