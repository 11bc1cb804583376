/* The core for any processor that the compiler's flags allow. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define MLPOT_LANES 8
#elif defined(__AVX__)
#define MLPOT_LANES 4
#else
#define MLPOT_LANES 2
#endif
#define ISA(name) name##_baseline

#include "kernels.h"
