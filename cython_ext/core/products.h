/* Products of packed matrices (packing.c) with panels of centres, in double and in single precision. */
#pragma once
#include "vectors.h"

#define REAL double
#define VECTOR mlpot_vector
#define PARTS MLPOT_PARTS
#define NAME(name) name
#include "product_kernels.h"
#undef REAL
#undef VECTOR
#undef PARTS
#undef NAME

#define REAL float
#define VECTOR mlpot_single
#define PARTS (MLPOT_PARTS / 2)
#define NAME(name) single_##name
#include "product_kernels.h"
#undef REAL
#undef VECTOR
#undef PARTS
#undef NAME
