"""`photoz score` and `photoz nz` at the scale of surveys: `python -m benchmarks.survey million|nodes|kills FILE`.

FILE has cutouts of the bundle's layout, such as `python -m training sample` draws; it stands for as many rows as are
wanted, by links of other names. Needs Linux, and for `nodes` ray and the right to make a network namespace.
"""

import argparse
import os
import random
import signal
import subprocess
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
from benchmarks.harness.processes import MB
from benchmarks.harness.results import Result, Spread, conclude
from benchmarks.speed.inprocess import InProcess

COMMAND = (sys.executable, "-c", "from photoz_client.cli import main; main()")
ROWS_PER_PART = 5000
BATCH = 256  # of `photoz score`
SDSS = 516_525  # galaxies of Pasquet et al. 2019
EDGES = "0,0.1,0.2,0.4"


def links(file: Path, n_rows: int, folder: Path) -> Path:
    """Fill a folder with links to a file, for so many rows or a few more."""
    with h5py.File(file) as opened:
        n = len(opened["images"])
    folder.mkdir()
    for number in range(-(-n_rows // n)):
        (folder / f"{number:04d}.h5").symlink_to(file.resolve())
    return folder


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
        pss = 0
        for one in (process, *process.children(recursive=True)):
            try:
                pss += one.memory_full_info().pss
            except psutil.Error:  # it has ended
                continue
        yield time.perf_counter() - began, progress(), pss / MB
        time.sleep(0.2)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command[2:])}")


def alone(kind: str, bundle: Path, seconds: float) -> float:
    """Return images per second of a process for each core, with a thread each, from memory."""
    with ExitStack() as stack, ThreadPoolExecutor(CPUS) as pool:
        made = [stack.enter_context(closing(InProcess(kind, str(bundle), threads=1))) for _ in range(CPUS)]
        rates = pool.map(lambda one: one.measure(BATCH, seconds)["images_per_s"], made)
        return sum(rates)


def million(options: argparse.Namespace, folder: Path) -> tuple[list[Result], Mapping[str, object]]:
    """Score a million rows between two measurements of the engine alone, and stack them."""
    inputs, output = links(options.file, options.rows, folder / "inputs"), folder / "scored"
    kinds = ("engine", "predictor")
    rates: dict[str, list[float]] = {kind: [alone(kind, options.bundle, options.seconds)] for kind in kinds}
    samples = list(watched(score(inputs, options.bundle, output), lambda: n_parts(output)))
    for kind in kinds:
        rates[kind].append(alone(kind, options.bundle, options.seconds))
    first, last = (next(t for t, parts, _ in samples if parts >= n) for n in (2, n_parts(output) - 2))
    steady = (n_parts(output) - 4) * ROWS_PER_PART / (last - first)
    early = max(pss for t, _, pss in samples if t <= first + options.settle)
    late = max(pss for t, _, pss in samples if last - options.settle <= t)
    stacked = list(watched([*COMMAND, "nz", str(output), "--edges", EDGES, "-o", str(folder / "nz.parquet")], int))
    over = {kind: Spread.of([steady / rate for rate in found]) for kind, found in rates.items()}
    found = [
        Result("images/s, of those of the engine alone", over["engine"], 0.9),
        Result("images/s, of those of the predictor alone", over["predictor"]),
        Result("images/s", Spread.of([steady])),
        Result("seconds for the rows of SDSS's main sample", Spread.of([SDSS / steady]), 240, 120, at_most=True),
        Result("memory at the end, of that at 10,000 rows", Spread.of([late / early]), 1.05, at_most=True),
        Result("MB at the end, all processes", Spread.of([late])),
        Result("n(z), seconds", Spread.of([stacked[-1][0]]), 60, at_most=True),
        Result("n(z), MB at the most", Spread.of([max(pss for _, _, pss in stacked)]), 500, at_most=True),
    ]
    return found, {"alone": rates, "seconds": samples[-1][0], "rows": n_parts(output) * ROWS_PER_PART}


def kills(options: argparse.Namespace, folder: Path) -> tuple[list[Result], Mapping[str, object]]:
    """Kill a run ten times at random moments, resume it, and compare it with one that was left alone."""
    inputs, rng, moments = links(options.file, options.rows, folder / "inputs"), random.Random(options.seed), []
    subprocess.run(score(inputs, options.bundle, folder / "whole"), cwd=ROOT, check=True)
    for number in range(options.kills):
        more = ["--resume"] if number else []
        process = psutil.Popen(score(inputs, options.bundle, folder / "killed", *more), cwd=ROOT)
        while n_parts(folder / "killed") == 0 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, options.within))
        victim = rng.choice([process, *process.children(recursive=True)])
        moments.append({"parts": n_parts(folder / "killed"), "command": victim == process})
        victim.send_signal(signal.SIGKILL)
        if victim != process:  # the run goes on with another one
            time.sleep(rng.uniform(0.0, options.within))
            process.send_signal(signal.SIGTERM)
        process.wait()
    left = n_parts(folder / "killed")
    subprocess.run([*score(inputs, options.bundle, folder / "killed"), "--resume"], cwd=ROOT, check=True)
    same = subprocess.run(["diff", "-rq", folder / "whole" / "done", folder / "killed" / "done"]).returncode == 0
    found = [
        Result("parts that were missing after the last kill", Spread.of([n_parts(folder / "whole") - left]), 1),
        Result("files are the same, byte for byte", Spread.of([float(same)]), 1),
    ]
    return found, {"kills": moments}


def nodes(options: argparse.Namespace, folder: Path) -> tuple[list[Result], Mapping[str, object]]:
    """Compare two Ray nodes of a core each with one, and two processes without Ray with one."""
    from ray.cluster_utils import Cluster

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    inputs, usable = links(options.file, options.rows, folder / "inputs"), sorted(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for n in (1, 2):
            output = folder / f"{number}-{n}"
            rates.setdefault(f"{n} processes", []).append(rate(inputs, options.bundle, output, "--workers", str(n)))
            cluster = Cluster(initialize_head=True, head_node_args={**OF_NODE, "num_cpus": 0})
            for core in usable[:n]:
                os.sched_setaffinity(0, {core})  # inherited by the node
                cluster.add_node(**OF_NODE)
            os.sched_setaffinity(0, usable)
            output = folder / f"{number}-{n}-ray"
            rates.setdefault(f"{n} nodes", []).append(rate(inputs, options.bundle, output, "--ray", cluster.address))
            cluster.shutdown()
    ratios = {
        what: Spread.of([two / one for one, two in zip(rates[f"1 {what}"], rates[f"2 {what}"], strict=True)])
        for what in ("nodes", "processes")
    }
    found = [
        Result("images/s of two nodes, of those of one", ratios["nodes"], 1.8),
        Result("images/s of two processes without Ray, of those of one", ratios["processes"]),
    ]
    return found, {"images_per_s": rates}


def rate(inputs: Path, bundle: Path, output: Path, *more: str) -> float:
    """Return images per second of a run, of all but its first third and its end: Ray's pool grows every ten seconds."""
    samples = list(watched(score(inputs, bundle, output, *more), lambda: n_parts(output)))
    begin, end = n_parts(output) // 3, n_parts(output) - 2
    first, last = (next(t for t, parts, _ in samples if parts >= n) for n in (begin, end))
    return (end - begin) * ROWS_PER_PART / (last - first)


OF_NODE = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "include_dashboard": False}
PROGRAMS = {"million": (million, 1_000_000), "kills": (kills, 200_000), "nodes": (nodes, 200_000)}


def main() -> int:
    """Run a program, print what was found, write its record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey", description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("file", type=Path, help="cutouts, HDF5")
    parser.add_argument("--bundle", type=Path, default=SHIPPED)
    parser.add_argument("--rows", type=int, help="default: a million, for others 200,000")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement of the engine alone")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds around a moment whose most memory counts")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--within", type=float, default=4.0, help="seconds of the first part that a kill comes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    program, rows = PROGRAMS[options.program]
    options.rows, options.output = options.rows or rows, RESULTS / f"survey-{options.program}.json"
    with tempfile.TemporaryDirectory() as folder:
        found, details = program(options, Path(folder))
    del options.file
    return conclude(options, found, details)


if __name__ == "__main__":
    sys.exit(main())
