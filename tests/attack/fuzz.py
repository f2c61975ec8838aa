"""Coverage-guided fuzzing of the decoders: `python -m tests.attack.fuzz open_inference --corpus runs/fuzz`.

Needs atheris (requirements/fuzz.txt). Any exception except `PhotozError` is a finding: its input is stored as
`crash-*`, `oom-*` or `timeout-*` in the folder of the corpus. Turn each finding into a test.
"""

import argparse
import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["photoz", "service", "numpy.lib", "zipfile"]):
    from tests.attack.fuzz_targets import SEEDS, run
    from tests.attack.mutations import MUTATORS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=SEEDS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="another one tries other inputs")
    parser.add_argument("--corpus", type=Path, required=True, help="folder that keeps the corpus between runs")
    arguments = parser.parse_args()
    target, corpus = arguments.target, arguments.corpus
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    # At most 1024 MB, of which the process starts with about 100, and 10 s for one input.
    limits = ["-max_len=16384", "-rss_limit_mb=1024", "-timeout=10", f"-max_total_time={arguments.seconds}"]
    limits.append(f"-seed={arguments.seed}")
    output = [f"-artifact_prefix={corpus}/", "-print_final_stats=1", str(corpus)]

    def mutate_half(data: bytes, max_size: int, seed: int) -> bytes:
        """Mutate values in half of the inputs, which random bytes hardly reach, and bytes in the others."""
        random = Random(seed)
        changed = MUTATORS[target](random, data) if random.random() < 0.5 else None
        return changed if changed and len(changed) <= max_size else atheris.Mutate(data, max_size)

    mutator = {"custom_mutator": mutate_half} if target in MUTATORS else {}
    atheris.Setup([sys.argv[0], *limits, *output], lambda data: run(target, data), **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
