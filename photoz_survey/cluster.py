"""Score chunks on a Ray cluster: only the model and the numbers of chunks are sent to its nodes, never pixels.

Each actor reads the rows of a chunk and writes their part itself, with the same function as on one machine. If a node
is lost, its chunk is scored again on another node: the part has the same name and content.
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
from photoz_survey.local import ONE_THREAD
from photoz_survey.manifest import Plan
from photoz_survey.parts import write_part
from photoz_survey.scoring import Scorer
from photoz_survey.storage import Folder

Files = dict[str, bytes]


class ClusterFailed(PhotozError):
    """An error on a node."""


def score_chunks(
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
            self._scorer = Scorer(Plan.model_validate_json(plan), ModelBundle.load(Path(bundle)))
        self._folder, self._chunks = Folder(url), {chunk.number: chunk for chunk in chunks}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score a chunk and write its part. Returns the message of an error, since Ray would wrap an exception."""
        chunk = self._chunks[row["item"]]
        try:
            write_part(self._folder, chunk, self._scorer.score(chunk))
        except (PhotozError, OSError) as error:
            return row | {"error": str(error)}
        return row | {"error": ""}


def _read_bundle(bundle: Path) -> Files:
    """Read all files of a bundle, to send them to the nodes."""
    return {str(path.relative_to(bundle)): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def _write_bundle(bundle: Path, files: Files) -> None:
    for name, content in files.items():
        path = bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
