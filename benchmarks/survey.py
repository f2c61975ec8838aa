"""`photoz score` and `photoz nz` at the scale of surveys: `python -m benchmarks.survey million FILE`.

FILE has cutouts of the bundle's layout, such as `python -m training sample` draws; it stands for as many rows as are
wanted, by links of other names. Needs Linux.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import h5py
import psutil

from benchmarks.harness.environment import CPUS, RESULTS, ROOT, SHIPPED
from benchmarks.harness.processes import memory_mb
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.speed.inprocess import InProcess

COMMAND = (sys.executable, "-c", "from photoz_client.cli import main; main()")
ROWS_PER_PART = 5000
BATCH = 128  # of `photoz score`
SDSS = 516_525  # galaxies of Pasquet et al. 2019
EDGES = "0,0.1,0.2,0.4"


def links(file: Path, n_rows: int, folder: Path) -> int:
    """Fill a folder with links to a file until they have `n_rows` rows or more; return how many they have."""
    with h5py.File(file) as opened:
        n = len(opened["images"])
    folder.mkdir()
    for number in range(-(-n_rows // n)):
        (folder / f"{number:04d}.h5").symlink_to(file.resolve())
    return n * (number + 1)


def score(inputs: Path, bundle: Path, output: Path, *more: str) -> list[str]:
    """Return the command that scores with PDFs."""
    options = ("--pdf", "float16", "--rows-per-part", str(ROWS_PER_PART))
    return [*COMMAND, "score", str(inputs), "--bundle", str(bundle), "-o", str(output), *options, *more]


def n_parts(output: Path) -> int:
    """Return how many parts are complete."""
    return len(list((output / "done").glob("part-*")))


def watched(command: Sequence[str], progress: Callable[[], int]) -> Iterator[tuple[float, int, float]]:
    """Run a command; yields seconds, progress and the memory of its processes in MB (PSS), several times a second."""
    began = time.perf_counter()
    process = psutil.Popen(command, cwd=ROOT)
    while process.poll() is None:
        memory = memory_mb([process, *process.children(recursive=True)])
        yield time.perf_counter() - began, progress(), memory
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command[2:])}")


def alone(kind: str, bundle: Path, seconds: float) -> float:
    """Return images per second of a process for each core, with a thread each, from memory."""
    with ExitStack() as stack, ThreadPoolExecutor(CPUS) as pool:
        networks = [stack.enter_context(closing(InProcess(kind, bundle, threads=1))) for _ in range(CPUS)]
        return sum(pool.map(lambda network: network.measure(BATCH, seconds), networks))


def million(options: argparse.Namespace, folder: Path) -> tuple[list[Result], Mapping[str, object]]:
    """Score a million rows between two measurements of the engine alone, and stack them."""
    inputs, output = folder / "inputs", folder / "scored"
    n_rows = links(options.file, options.rows, inputs)
    kinds = ("engine", "predictor")
    rates: dict[str, list[float]] = {kind: [alone(kind, options.bundle, options.seconds)] for kind in kinds}
    samples = list(watched(score(inputs, options.bundle, output), lambda: n_parts(output)))
    for kind in kinds:
        rates[kind].append(alone(kind, options.bundle, options.seconds))
    first, last = (next(t for t, parts, _ in samples if parts >= n) for n in (2, n_parts(output) - 2))
    steady = n_rows * (1 - 4 / n_parts(output)) / (last - first)
    early = max(pss for t, _, pss in samples if t <= first + options.settle)
    late = max(pss for t, _, pss in samples if last - options.settle <= t)
    stacked = list(watched([*COMMAND, "nz", str(output), "--edges", EDGES, "-o", str(folder / "nz.parquet")], int))
    of_engine, of_predictor = ([steady / rate for rate in rates[kind]] for kind in kinds)
    results = [
        at_least("images/s, of those of the engine alone", of_engine, 0.9),
        reported("images/s, of those of the predictor alone", of_predictor),
        reported("images/s", steady),
        at_most("seconds for the rows of SDSS's main sample", SDSS / steady, 240),
        at_most("memory at the end, of that at 10,000 rows", late / early, 1.05),
        reported("MB at the end, all processes", late),
        at_most("n(z), seconds", stacked[-1][0], 60),
        at_most("n(z), MB at the most", max(pss for _, _, pss in stacked), 500),
    ]
    return results, {"alone": rates, "seconds": samples[-1][0], "rows": n_rows}


def main() -> int:
    """Score, print what was measured, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey", description=__doc__)
    parser.add_argument("program", choices=["million"])
    parser.add_argument("file", type=Path, help="cutouts, HDF5")
    parser.add_argument("--bundle", type=Path, default=SHIPPED)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement of the engine alone")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds around a moment whose most memory counts")
    options = parser.parse_args()
    options.output = RESULTS / "survey-million.json"
    with tempfile.TemporaryDirectory() as folder:
        results, details = million(options, Path(folder))
    del options.file
    return conclude(options, results, details)


if __name__ == "__main__":
    sys.exit(main())
