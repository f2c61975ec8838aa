"""Compile the hash-locked requirements from pyproject.toml, for every supported Python and platform at once."""

import subprocess
import sys

SETS = {
    "all": ["pyproject.toml", "--extra=bento", "--extra=training", "--group=test", "--group=lint"],
    # What is served, and what trains, is what was tested.
    "service": ["pyproject.toml", "--extra=service", "--constraint=requirements/all.txt"],
    "bento": ["pyproject.toml", "--extra=bento", "--constraint=requirements/all.txt"],
    "training": ["pyproject.toml", "--extra=training", "--constraint=requirements/all.txt"],
    # Tools that look at the others from outside: not what this project itself needs.
    "audit": ["--group=audit"],
    "fuzz": ["--group=fuzz"],
}

for name, wanted in SETS.items():
    command = [
        "uv", "pip", "compile", *wanted, "--universal", "--generate-hashes", "--python-version=3.11",
        "--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command=make lock", "--quiet",
        f"--output-file=requirements/{name}.txt", *sys.argv[1:],
    ]  # fmt: skip
    subprocess.run(command, check=True)
