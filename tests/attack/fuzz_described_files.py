"""Fuzz the readers of FITS and HDF5: `python -m tests.attack.fuzz_described_files fits --seconds 3600`.

The service decodes these files in a child process with limits; so does this program, many to a child. A `PhotozError`
or `MemoryError` refuses an input. Any other exception is a finding, and so is a child that crashes; one that runs out
of processor time, as the service allows it for one file, is reported. Needs Linux.
"""

import argparse
import mmap
import os
import resource
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from photoz.errors import PhotozError
from photoz.io.fits import load_astropy
from service import files
from tests.attack.corpus import SPEC, fits_files, hdf5_files
from tests.attack.malformed_inputs import mutate_bytes
from tests.attack.mutations import mutate_fits_cards

SEEDS = {"fits": fits_files, "hdf5": hdf5_files}
ALLOWED_BYTES = 16 * 1024 * 1024  # of memory, beside the libraries
OF_CHILD = 500  # inputs
HARD_SECONDS = 600  # of a child
MESSAGE_BYTES = 1000


def mutated(random: Random, seeds: list[bytes], format: str) -> bytes:
    """Return a seed with one to three mutations, sometimes cut off."""
    data = random.choice(seeds)
    for _ in range(random.randint(1, 3)):
        by_cards = format == "fits" and random.random() < 0.7
        data = (mutate_fits_cards(random, data) if by_cards else mutate_bytes(random, data)) or data
    return data[: random.randint(0, len(data))] if random.random() < 0.1 else data


def run_child(seed: int, format: str, last: mmap.mmap) -> None:
    """Decode inputs until one ends this process; each is stored in shared memory before."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # astropy's warnings
    random, seeds = Random(seed), SEEDS[format]()
    slowest = 0.0
    files.limit_resources(ALLOWED_BYTES, HARD_SECONDS)
    for _ in range(OF_CHILD):
        data = mutated(random, seeds, format)
        if not data.startswith(files.MAGICS):  # not given to a child
            continue
        write(last, data, "")
        begin = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(begin) + 1 + files.CPU_SECONDS, HARD_SECONDS + 1))
        try:
            with mock.patch.object(files, "limit_resources"):  # set above, for all inputs
                files.parse_file(data, SPEC, ALLOWED_BYTES, files.CPU_SECONDS)
        except (PhotozError, MemoryError):
            pass
        except Exception as error:
            write(last, data, f"{type(error).__name__}: {error}")
            os._exit(1)
        if (took := time.process_time() - begin) > slowest:
            slowest = took
    write(last, b"", f"slowest {slowest:.1f} s")
    os._exit(0)


def write(last: mmap.mmap, data: bytes, message: str) -> None:
    """Write an input and a message into shared memory: a child may write no file, and stdout may be one."""
    text = message.encode()[:MESSAGE_BYTES].ljust(MESSAGE_BYTES)
    last[: 8 + MESSAGE_BYTES + len(data)] = len(data).to_bytes(8) + text + data


def read(last: mmap.mmap) -> tuple[bytes, str]:
    """Return the last input and message."""
    start = 8 + MESSAGE_BYTES
    return last[start : start + int.from_bytes(last[:8])], last[8:start].decode(errors="replace").strip()


def store(last: mmap.mmap, folder: Path, number: int, status: int) -> int:
    """Store the last input of a child that did not end well; return whether it is a finding."""
    code, (data, message) = os.waitstatus_to_exitcode(status), read(last)
    if not code:
        return 0
    path = folder / f"{'slow' if code == -signal.SIGXCPU else 'crash'}-{number}"
    path.write_bytes(data)
    print(f"{path}: the child ended with {code} {message}", flush=True)
    return int(code != -signal.SIGXCPU)


def main() -> int:
    """Fuzz until the processor time is used; return whether there was no finding."""
    parser: Any = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("format", choices=SEEDS)
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path("runs/fuzz") / arguments.format
    folder.mkdir(parents=True, exist_ok=True)
    load_astropy()
    findings, number, last = 0, 0, mmap.mmap(-1, 2**20)
    while _used() < arguments.seconds:
        number += 1
        if not (child := os.fork()):
            run_child(1000 * arguments.seed + number, arguments.format, last)
        findings += store(last, folder, number, os.waitpid(child, 0)[1])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{number * OF_CHILD:,} inputs at most in {_used():,.0f} s, {findings} findings; largest child {peak:.0f} MB")
    return int(findings > 0)


def _used() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


if __name__ == "__main__":
    sys.exit(main())
