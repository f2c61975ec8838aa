"""Score chunks on this machine, with a process for each core: each runs the network on one thread."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Plan
from photoz_survey.parts import write_part
from photoz_survey.processes import run_in_processes
from photoz_survey.scoring import Scorer
from photoz_survey.storage import Folder

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def score_chunks(plan: Plan, bundle: Path, folder: Folder, chunks: Sequence[Chunk], workers: int) -> Iterator[Chunk]:
    """Score chunks in so many processes and write their parts; yields each chunk when its part is written.

    A process that is killed is replaced. Raises as `run_in_processes`, and what `Scorer.score` and writing raise.
    """
    make_pool = partial(_pool, plan, bundle, folder.url, workers)
    yield from run_in_processes(make_pool, _score, chunks, workers)


def _pool(plan: Plan, bundle: Path, url: str, workers: int) -> ProcessPoolExecutor:
    os.environ |= ONE_THREAD  # inherited by the processes; this one computes nothing
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _start, (plan, bundle, url, os.getpid()))


def _start(plan: Plan, bundle: Path, url: str, parent: int) -> None:
    """Load the model, in a new process."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what is still done
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = Scorer(plan, ModelBundle.load(bundle)), Folder(url)


_worker: tuple[Scorer, Folder]


def _score(chunk: Chunk) -> None:
    scorer, folder = _worker
    write_part(folder, chunk, scorer.score(chunk))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
