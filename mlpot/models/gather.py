"""All rows of a fit, made block by block anywhere and folded into triangles: memory does not grow with the data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from ..errors import FitError
from ..structures import LabelledStructure
from ..threads import n_threads, single_blas_thread
from .design_matrix import Design, Group, Rows
from .evidence import Evidence
from .factor import ROWS_AT_ONCE, TriangularFactor

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""

BLOCK = 2
"""Rows of a block for each column: folding its triangle into the whole costs a sixth of making it."""
LEAST = 2048
"""Rows that are worth the way to another process."""
IN_FLIGHT = 32
"""Blocks that wait at most for an executor of unknown size: each is as large as a triangle."""


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def gather(
    design: Design,
    structures: Sequence[LabelledStructure],
    jitter: float,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Evidence:
    """Everything that the structures tell about the sparse points.

    Blocks depend on the structures alone and are taken in in their order, so the result is the same to the last bit for any
    number of workers.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Makes the blocks; threads of this process by default.
    """
    evidence = Evidence.before_data(design, jitter)
    blocks, done = blocks_of(structures, design.n_columns), 0
    for block, groups in zip(blocks, map_blocks(executor, partial(factors_of, design), blocks), strict=True):
        evidence.merge(groups)
        done += len(block)
        progress("design matrix", done, len(structures))
    return evidence


def blocks_of(structures: Sequence[LabelledStructure], n_columns: int) -> list[list[LabelledStructure]]:
    """Consecutive structures that have enough rows together."""
    enough = max(BLOCK * n_columns, LEAST)
    blocks: list[list[LabelledStructure]] = []
    n_rows = enough
    for structure in structures:
        if n_rows >= enough:
            blocks.append([])
            n_rows = 0
        blocks[-1].append(structure)
        n_rows += structure.n_rows
    return blocks


def map_blocks(executor: Executor | None, function: Callable, blocks: Iterable) -> Iterator:
    """Results of a function for every block, in their order; threads of this process by default.

    Raises
    ------
    FitError
        If a worker dies.
    """
    if executor is None:
        with ThreadPoolExecutor(n_threads()) as threads:
            yield from bounded_map(threads, function, blocks, n_threads() + 1)
        return
    try:
        yield from bounded_map(executor, function, blocks, IN_FLIGHT)
    except BrokenExecutor as error:
        raise FitError(f"a worker died ({error}); if memory was short, use fewer workers") from error


def factors_of(design: Design, structures: Sequence[LabelledStructure]) -> dict[Group, TriangularFactor]:
    """The triangles of a block of structures."""
    factors: dict[Group, TriangularFactor] = {}
    waiting: dict[Group, list[np.ndarray]] = {}

    def absorb(group: Group) -> None:
        factor = factors.setdefault(group, TriangularFactor(design.n_columns))
        factor.absorb(np.concatenate(waiting.pop(group)))

    with single_blas_thread():
        for structure in structures:
            rows: Rows = design.rows(structure)
            for group, part in rows.items():
                waiting.setdefault(group, []).append(part)
                if sum(map(len, waiting[group])) >= ROWS_AT_ONCE:
                    absorb(group)
        for group in list(waiting):
            absorb(group)
    return factors


def bounded_map(executor: Executor, function: Callable, items: Iterable, in_flight: int) -> Iterator:
    """executor.map that never has more than `in_flight` results waiting: a result is a large array."""
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
