"""Number of threads of compiled loops, and restriction of BLAS to one thread inside them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def n_threads() -> int:
    """Threads of compiled loops: OMP_NUM_THREADS where it is set, else the processors this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  (its BLAS is the one that the core calls)

    return ThreadpoolController().select(user_api="blas")


def single_blas_thread() -> AbstractContextManager:
    """Context in which BLAS runs on the calling thread: our own threads call it, one product each."""
    return _blas().limit(limits=1)
