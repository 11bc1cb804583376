/* The core for processors with AVX-512. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "instruction_sets.h"

#if MLPOT_DISPATCH
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,bmi2")
#endif
#define MLPOT_LANES 8
#define ISA(name) name##_avx512
#include "kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
