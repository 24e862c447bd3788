"""A task over processes; the result does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

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
    # Processes are spawned: the caller may have threads, which a fork would copy in whatever state they are. The task
    # goes through a file: a process that dies before it has read all of a pipe would leave this one waiting for ever.
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="agentcanary-") as folder:
        file = Path(folder) / "task.pickle"
        file.write_bytes(pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL))
        with ProcessPoolExecutor(
            min(jobs, total), mp_context=context, initializer=_begin, initargs=(str(file),)
        ) as pool:
            for part in pool.map(_chunk, range(total)):
                done(part)
    return gathered(parts)


def _begin(file: str) -> None:
    global _task
    _task = pickle.loads(Path(file).read_bytes())


def _chunk(chunk: int) -> Worked:
    if _task is None:
        raise RuntimeError("this process was not given its task")
    return work(_task, chunk)
