"""Fuzz what decodes bytes from the wire, guided by coverage: `python tests/attack/fuzz.py v2 --seconds 600`.

Anything but a result that passes its checks or a `PhotozError` is a finding: the input is left as `crash-*`, `oom-*` or
`timeout-*` in the folder of the corpus. A finding becomes a case of the tests beside this file, its bytes made by code.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["photoz", "service", "numpy.lib", "zipfile"]):
    from mutations import mutated_inference, mutated_json
    from seeds import fuzz_seeds
    from targets import TARGETS, run

MAX_BYTES = 16384  # of an input
RSS_LIMIT_MB = 1024  # sixty thousand times an input; the process begins with about 150
TIMEOUT = 10  # seconds, for one input

Change = Callable[[bytes, Random], bytes | None]
CHANGES: Mapping[str, Change] = {"v2": mutated_inference, "json": mutated_json}

WORDS = {
    "v2": """inputs outputs parameters binary_data_size binary_data binary_data_output name images ebv object_id shape
        datatype data FP16 FP32 FP64 INT8 INT64 UINT64 BYTES null true NaN Infinity 1e999 [[[[ 18446744073709551616
        1099511627775 -1""",
    "json": "images pdfs z_spec ebv object_id magnitudes pdf null true NaN -Infinity 1e999 [[[[ 18446744073709551616",
    "file": "descr fortran_order shape True False <f4 >f8 |S0 |V8 |O <U9 M8[s] <c8 ('a','<f4') (2,8,8,2) L PK",
    "compression": r"\x1f\x8b\x08",
}


def write_corpus(folder: Path, target: str) -> Path:
    """Write the seeds, and a dictionary beside the folder; return the path of that."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzz_seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)
    dictionary = folder.with_name(f"{folder.name}.dict")
    dictionary.write_text("".join(f'"{word}"\n' for word in WORDS[target].split()))
    return dictionary


def mutator(change: Change) -> Callable[[bytes, int, int], bytes]:
    """Return what libFuzzer calls for a new input: half of them keep their JSON well-formed."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        changed = change(data, random) if random.random() < 0.5 else None
        return changed if changed and len(changed) <= max_size else atheris.Mutate(data, max_size)

    return mutate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="kept from one run to the next; a new one without")
    arguments = parser.parse_args()
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="photoz-fuzz-")) / arguments.target
    dictionary = write_corpus(corpus, arguments.target)
    options = {
        "max_total_time": arguments.seconds,
        "max_len": MAX_BYTES,
        "rss_limit_mb": RSS_LIMIT_MB,
        "timeout": TIMEOUT,
        "seed": arguments.seed,
        "dict": dictionary,
        "artifact_prefix": f"{corpus}/",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)],
        lambda data: run(arguments.target, data),
        **{"custom_mutator": mutator(CHANGES[arguments.target])} if arguments.target in CHANGES else {},
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
