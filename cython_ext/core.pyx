"""The C core for Python: typed memoryviews over its tables and loops, one module, so that there is one core with one choice of
instruction set.

Arguments are not checked here: shapes and values are checked by the calling Python code.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from arrays cimport (
    aligned_copy, aligned_zeros, block_start, grid_of, matrix_start, pairs_of, part_start, vector_start,
)
from declarations cimport *

CHANNELS = MLPOT_CHANNELS
TILE = MLPOT_TILE
MAX_L = MLPOT_MAX_L
N_MEMBERS = MLPOT_MEMBERS
INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512")


def use_instructions(int level=-1):
    """Compute with an instruction set, an index into INSTRUCTION_SETS, or the best available (-1); return the one in use."""
    return mlpot_instructions(level)


include "contractions.pxi"
include "points.pxi"
include "density.pxi"
include "covariants.pxi"
include "acsf.pxi"
include "bispectrum.pxi"
include "angle_histograms.pxi"
include "model.pxi"
