"""Coverage-guided fuzzing of the decoders: `python -m tests.attack.fuzz open_inference --seconds 600`.

Needs atheris (requirements/fuzz.txt). Any exception except `PhotozError` is a finding: its input is stored as
`crash-*`, `oom-*` or `timeout-*` in the folder of the corpus. Turn each finding into a test.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["photoz", "service", "numpy.lib", "zipfile"]):
    from tests.attack.fuzz_targets import SEEDS, run
    from tests.attack.mutations import MUTATORS


def write_seeds(folder: Path, target: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (folder / f"seed-{number}").write_bytes(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=SEEDS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder that keeps the corpus between runs; by default a new one")
    arguments = parser.parse_args()
    target = arguments.target
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="photoz-fuzz-")) / target
    write_seeds(corpus, target)
    options = {
        "max_total_time": arguments.seconds,
        "max_len": 16384,
        "rss_limit_mb": 1024,  # the process starts with about 100
        "timeout": 10,  # seconds for one input
        "seed": arguments.seed,
        "artifact_prefix": f"{corpus}/",
        "print_final_stats": 1,
    }

    def mutate_half(data: bytes, max_size: int, seed: int) -> bytes:
        """Mutate values in half of the inputs, which random bytes hardly reach, and bytes in the others."""
        random = Random(seed)
        changed = MUTATORS[target](random, data) if random.random() < 0.5 else None
        return changed if changed and len(changed) <= max_size else atheris.Mutate(data, max_size)

    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)],
        lambda data: run(target, data),
        **{"custom_mutator": mutate_half} if target in MUTATORS else {},
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
