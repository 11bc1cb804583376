/* The core for processors with AVX2 and FMA. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instruction_sets.h"

#if MLPOT_DISPATCH
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi2")
#endif
#define MLPOT_LANES 4
#define ISA(name) name##_avx2
#include "kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
