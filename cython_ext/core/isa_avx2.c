/* The core for processors with AVX2 and FMA. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instruction_sets.h"

#if MLPOT_DISPATCH
#pragma GCC target("avx2,fma,bmi2")
#define MLPOT_LANES 4
#define ISA(name) name##_avx2
#include "kernels.h"
#endif
