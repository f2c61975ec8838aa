"""Score chunks on this machine, with a process for each core: each runs the network on one thread."""

import os
from collections.abc import Iterator, Sequence
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
    """Score chunks in `workers` processes and write their parts; yields each chunk when its part is written.

    A process that is killed is replaced. Raises as `run_in_processes`, and what `Scorer.score` and writing raise.
    """
    os.environ |= ONE_THREAD  # inherited by the processes; this one computes nothing
    yield from run_in_processes(_score, chunks, workers, _load, (plan, bundle, folder.url))


def _load(plan: Plan, bundle: Path, url: str) -> None:
    """Load the model, in a new process."""
    global _scorer, _folder
    _scorer, _folder = Scorer(plan, ModelBundle.load(bundle)), Folder(url)


_scorer: Scorer
_folder: Folder


def _score(chunk: Chunk) -> None:
    write_part(_folder, chunk, _scorer.score(chunk))
