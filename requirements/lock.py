"""Compile the hash-locked requirements from pyproject.toml, for all supported Pythons and platforms at once."""

import subprocess
import sys
from pathlib import Path

DEV = [
    *("pyproject.toml", "--extra=bento", "--extra=training", "--extra=qp", "--extra=s3", "--extra=samp", "--extra=sky"),
    *("--extra=zarr", "--group=test", "--group=lint"),
]
SETS = {
    "all": [*DEV, "--extra=rail", "--extra=ray", "--group=acceptance", "--group=docs"],
    # What `make test` and `make lint` need.
    "dev": [*DEV, "--constraint=requirements/all.txt"],
    # Serving and training use the versions that were tested.
    "service": ["pyproject.toml", "--extra=service", "--constraint=requirements/all.txt"],
    "bento": ["pyproject.toml", "--extra=bento", "--constraint=requirements/all.txt"],
    "training": ["pyproject.toml", "--extra=training", "--constraint=requirements/all.txt"],
    # The site imports all that it documents, but no TensorFlow.
    "docs": [
        "pyproject.toml",
        "--extra=service",
        "--extra=rail",
        "--extra=sky",
        "--group=docs",
        "--constraint=requirements/all.txt",
    ],
    # Tools with their own environments.
    "audit": ["--group=audit"],
    "dist": ["--group=dist"],
    "fuzz": ["--group=fuzz"],
    # What installs the others.
    "uv": ["--group=uv", "--constraint=requirements/all.txt"],
}

UV = str(Path(sys.executable).with_name("uv"))

for name, sources in SETS.items():
    command = [
        UV, "pip", "compile", *sources, "--universal", "--generate-hashes", "--python-version=3.11",
        "--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command=make lock", "--quiet",
        f"--output-file=requirements/{name}.txt", *sys.argv[1:],
    ]  # fmt: skip
    subprocess.run(command, check=True)
