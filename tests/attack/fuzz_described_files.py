"""Fuzz the readers of FITS and HDF5: `python -m tests.attack.fuzz_described_files fits --seconds 3600`.

As in the service, a child process with limits decodes each input. A child that crashes is a finding; one that runs out
of processor time is reported. Needs Linux.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from photoz.errors import PhotozError
from photoz.io.fits import load_astropy
from service import files
from tests.attack.corpus import COLUMNS, IMAGES, SPEC
from tests.attack.files import fits_files, hdf5_files
from tests.attack.mutations import mutate_bytes, mutate_fits_cards

SEEDS = {
    "fits": [*fits_files(IMAGES, SPEC.bands, COLUMNS | {"object_id": ["NGC 1", "b"]}).values()],
    "hdf5": [*hdf5_files(IMAGES, SPEC, COLUMNS).values()],
}


def inputs(seed: int, format: str) -> Iterator[bytes]:
    """Yield seeds with one to three mutations, sometimes cut off: the same each time."""
    random, seeds = Random(seed), SEEDS[format]
    while True:
        data = random.choice(seeds)
        for _ in range(random.randint(1, 3)):
            by_cards = format == "fits" and random.random() < 0.7
            data = (mutate_fits_cards(random, data) if by_cards else mutate_bytes(random, data)) or data
        data = data[: random.randint(0, len(data))] if random.random() < 0.1 else data
        if data.startswith(files.MAGICS):  # others are not given to a child
            yield data


def decode(data: bytes) -> int:
    """Decode a file in a child; return how the child ended."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # astropy's warnings
    try:
        with suppress(PhotozError):
            files.parse_file(data, SPEC, files.allowed_bytes(len(data)), files.CPU_SECONDS)
        os._exit(0)
    finally:
        os._exit(1)


def main() -> int:
    """Fuzz until the time is over; return whether there was a finding."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("format", choices=SEEDS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path("runs/fuzz") / arguments.format
    folder.mkdir(parents=True, exist_ok=True)
    load_astropy()
    findings, deadline = 0, time.monotonic() + arguments.seconds
    for number, data in enumerate(inputs(arguments.seed, arguments.format)):
        if time.monotonic() > deadline:
            break
        if code := decode(data):
            path = folder / f"{'slow' if code == -signal.SIGPROF else 'crash'}-{number}"
            path.write_bytes(data)
            print(f"{path}: the child ended with {code}", flush=True)
            findings += code != -signal.SIGPROF
    print(f"{number:,} inputs, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
