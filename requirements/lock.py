"""Compile the hash-locked requirements from pyproject.toml, for every supported Python and platform at once."""

import subprocess
import sys

SETS = {
    "service": ["--extra=service"],
    "all": ["--extra=service", "--extra=training", "--group=test", "--group=lint"],
}

for name, wanted in SETS.items():
    command = [
        "uv", "pip", "compile", "pyproject.toml", *wanted, "--universal", "--generate-hashes", "--python-version=3.11",
        "--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command=make lock", "--quiet",
        f"--output-file=requirements/{name}.txt", *sys.argv[1:],
    ]  # fmt: skip
    subprocess.run(command, check=True)
