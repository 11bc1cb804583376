"""Which instruction set the core computes with; part of every extension that has a copy of the core, and sets that copy's."""

from core cimport mlpot_instructions

INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512")


def use_instructions(int level=-1):
    """Compute with an instruction set, an index into INSTRUCTION_SETS, or the best (-1); returns the one in use."""
    return mlpot_instructions(level)
