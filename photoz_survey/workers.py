"""Score chunks by a process for each core of this machine, or by actors on a Ray cluster.

Only the model and the numbers of chunks are sent to them, never pixels: each process runs the network on one thread,
reads the rows of a chunk, and writes their part itself. If a process or node is lost, its chunk is scored again by
another: the part has the same name and content.
"""

import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from photoz.errors import InvalidInput, PhotozError
from photoz.model.bundle import ModelBundle
from photoz_survey.inputs import Chunk
from photoz_survey.manifest import Plan
from photoz_survey.parts import write_part
from photoz_survey.processes import run_in_processes
from photoz_survey.scoring import Scorer
from photoz_survey.storage import Folder

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ClusterFailed(PhotozError):
    """An error on a node."""


class _Worker:
    """Scores chunks by a model that it has loaded, and writes their parts."""

    def __init__(self, plan: Plan, bundle: Path, url: str) -> None:
        self._scorer, self._folder = Scorer(plan, ModelBundle.load(bundle)), Folder(url)

    def score(self, chunk: Chunk) -> None:
        write_part(self._folder, chunk, self._scorer.score(chunk))


def score_here(plan: Plan, bundle: Path, folder: Folder, chunks: Sequence[Chunk], workers: int) -> Iterator[Chunk]:
    """Score chunks in `workers` processes and write their parts; yields each chunk when its part is written.

    A process that is killed is replaced. Raises as `run_in_processes`, and what `Scorer.score` and writing raise.
    """
    os.environ |= ONE_THREAD  # inherited by the processes; this one computes nothing
    yield from run_in_processes(_score, chunks, workers, _load, (plan, bundle, folder.url))


def _load(plan: Plan, bundle: Path, url: str) -> None:
    global _worker
    try:
        _worker = _Worker(plan, bundle, url)
    except (PhotozError, OSError) as error:  # an exception here would kill the process
        _worker = error


_worker: _Worker | PhotozError | OSError


def _score(chunk: Chunk) -> None:
    if isinstance(_worker, Exception):
        raise _worker
    _worker.score(chunk)


def score_on_cluster(
    plan: Plan, bundle: Path, folder: Folder, chunks: Sequence[Chunk], address: str, workers: int | None = None
) -> Iterator[Chunk]:
    """Score chunks on the cluster at `address`, "auto" for the one of this machine, and write their parts.

    Yields each chunk when its part is written. The pool of actors, one for each core and at most `workers`, grows and
    shrinks with the cluster. Raises `InvalidInput` if there is no cluster, `ClusterFailed` for an error on a node.
    """
    if not chunks:
        return
    ray = _connect(address)
    from ray.data import ActorPoolStrategy, from_items

    numbers = from_items([chunk.number for chunk in chunks], override_num_blocks=len(chunks))
    actor: Any = _Actor  # Ray's types know functions only
    scored = numbers.map(
        actor,
        fn_constructor_args=(plan.model_dump_json(), ray.put(_read_bundle(bundle)), folder.url, tuple(chunks)),
        compute=ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=1,
    )
    by_number = {chunk.number: chunk for chunk in chunks}
    try:
        for row in scored.iter_rows():
            if row["error"]:
                raise ClusterFailed(row["error"])
            yield by_number[row["item"]]
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """Connect to a cluster, and return the module `ray`."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}  # read on import
    try:
        import ray
        from ray.data import DataContext
    except ModuleNotFoundError as error:
        raise InvalidInput(f"a cluster needs {error.name}: install it with pip install 'photoz[ray]'") from error
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, runtime_env={"env_vars": ONE_THREAD})
    except (ConnectionError, ray.exceptions.RayError, RuntimeError) as error:
        failure = f"no Ray cluster at {address}: {str(error).splitlines()[0]}"
        raise InvalidInput(f"{failure}; for a cluster with a token, set RAY_AUTH_MODE=token here too") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has set its own handler
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


class _Actor:
    """A process on a node that has loaded the model."""

    def __init__(self, plan: str, files: Any, url: str, chunks: Sequence[Chunk]) -> None:
        import ray

        with tempfile.TemporaryDirectory(prefix="photoz-") as bundle:
            _write_bundle(Path(bundle), ray.get(files))
            self._worker = _Worker(Plan.model_validate_json(plan), Path(bundle), url)
        self._chunks = {chunk.number: chunk for chunk in chunks}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score a chunk and write its part. Returns the message of an error, since Ray would wrap an exception."""
        try:
            self._worker.score(self._chunks[row["item"]])
        except (PhotozError, OSError) as error:
            return row | {"error": str(error)}
        return row | {"error": ""}


def _read_bundle(bundle: Path) -> dict[str, bytes]:
    """Read all files of a bundle, to send them to the nodes."""
    return {str(path.relative_to(bundle)): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def _write_bundle(bundle: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
