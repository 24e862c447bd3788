"""A task over processes; the result does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from agentcanary.calibration.work import Task, Worked, gathered, work

Progress = Callable[[int, int], None]

_task: Task | None = None


def all_chunks(task: Task, *, jobs: int = 1, progress: Progress | None = None) -> Worked:
    """Every chunk of a task, in order.

    Args:
        task: The work.
        jobs: Processes.
        progress: Is told how many chunks are done, of how many.
    """
    total = task.chunks
    parts: list[Worked] = []

    def done(part: Worked) -> None:
        parts.append(part)
        if progress is not None:
            progress(len(parts), total)

    if min(jobs, total) == 1:
        for chunk in range(total):
            done(work(task, chunk))
        return gathered(parts)
    # Processes are spawned: the caller may have threads, which a fork would copy in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, total), mp_context=context, initializer=_begin, initargs=(task,)) as pool:
        for part in pool.map(_chunk, range(total)):
            done(part)
    return gathered(parts)


def _begin(task: Task) -> None:
    global _task
    _task = task


def _chunk(chunk: int) -> Worked:
    if _task is None:
        raise RuntimeError("this process was not given its task")
    return work(_task, chunk)
