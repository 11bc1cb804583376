/* Everything that is compiled per instruction set, in the order of its layers; ISA() names the entry points. */
#include "products.h"
#include "scratch.h"
#include "harmonics.h"
#include "radial.h"
#include "expansion.h"
#include "power_spectrum.h"
#include "blocks.h"
#include "energies.h"
#include "jacobian.h"
#include "rows.h"
#include "pair_loops.h"
#include "triplet_loops.h"
#include "moments.h"
#include "triplet_functions.h"
#include "covariants.h"
#include "bispectrum_loops.h"
#include "angle_histogram_loops.h"
#include "feature_energies.h"

#include "instruction_sets.h"

const mlpot_entry_points ISA(mlpot_entry_points) = {
    expand, features, features_vjp, local_energies, design_rows, pair_sums, triplet_sums,
    pair_member_gradients, moments, triplet_functions, covariants, covariants_vjp, expand_vjp, bispectrum, angle_histograms,
    mapped_energies,
};
