"""Accumulation of the rows of a fit, block by block and possibly in parallel: memory does not grow with the data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from ..errors import FitError
from ..structures import LabelledStructure
from ..threads import n_threads, single_blas_thread
from .design_matrix import Design, Group
from .posterior import NormalEquations

Progress = Callable[[str, int, int], None]
"""Callback with the name of a stage, the number of items done, and their total number."""

ROWS_AT_ONCE = 1024
"""Rows of a block: enough for efficient matrix products."""
IN_FLIGHT = 32
"""Largest number of blocks waiting for an executor of unknown size."""
Whitened = list[tuple[Group, np.ndarray, np.ndarray]]
"""Whitened rows and labels by group."""


def silent(stage: str, done: int, total: int) -> None:
    """Discard the progress report."""


def gather(
    design: Design,
    structures: Sequence[LabelledStructure],
    progress: Progress = silent,
    executor: Executor | None = None,
) -> dict[Group, NormalEquations]:
    """Accumulate the normal equations of all labels, group by group.

    Blocks depend only on the structures and are added in order, so the result is bitwise identical for any number of workers.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Computes the blocks; threads of this process by default.
    """
    groups: dict[Group, NormalEquations] = {}
    blocks, done = blocks_of(structures), 0
    for block, found in zip(blocks, map_blocks(executor, partial(whitened_block, design), blocks), strict=True):
        for group, rows, labels in found:
            groups.setdefault(group, NormalEquations.empty(design.n_sparse)).absorb(rows, labels)
        done += len(block)
        progress("design matrix", done, len(structures))
    return dict(sorted(groups.items()))


def blocks_of(structures: Sequence[LabelledStructure]) -> list[list[LabelledStructure]]:
    """Divide structures into consecutive blocks with enough rows each."""
    blocks: list[list[LabelledStructure]] = []
    n_rows = ROWS_AT_ONCE
    for structure in structures:
        if n_rows >= ROWS_AT_ONCE:
            blocks.append([])
            n_rows = 0
        blocks[-1].append(structure)
        n_rows += structure.n_rows
    return blocks


def map_blocks(executor: Executor | None, function: Callable, blocks: Iterable) -> Iterator:
    """Yield the results of a function for all blocks, in order; threads of this process by default.

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


def whitened_block(design: Design, structures: Sequence[LabelledStructure]) -> Whitened:
    """Whitened rows of all labels of a block of structures, group by group."""
    rows: dict[Group, list[np.ndarray]] = {}
    with single_blas_thread():
        for structure in structures:
            for group, part in design.rows(structure).items():
                rows.setdefault(group, []).append(part)
        return list(design.whitened_rows({group: np.concatenate(parts) for group, parts in rows.items()}))


def bounded_map(executor: Executor, function: Callable, items: Iterable, in_flight: int) -> Iterator:
    """executor.map with at most `in_flight` pending results, since each result is a large array."""
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
