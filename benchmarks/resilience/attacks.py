"""Attacks: bytes that no client should send, or not in this way, and what they are made of."""

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.messages import infer_body, infer_request
from benchmarks.resilience.known_answers import npz

# wait for the answer | shut down the sending side, and wait | close | close with a reset
Finish = Literal["wait", "end", "leave", "reset"]

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Attack:
    """Bytes to send.

    Parameters
    ----------
    kind : str
        In a few words.
    pieces : tuple of bytes
        Sent one after the other, with a pause between them.
    finish : str
        What follows them.
    answers : int
        How many are waited for at most: more than one if requests follow each other without a pause.
    method : str
        "HEAD" if the answer has no body.
    """

    kind: str
    pieces: tuple[bytes, ...]
    finish: Finish = "wait"
    answers: int = 1
    method: str = "POST"


Maker = Callable[[Random, "Material"], Attack]


class Material:
    """Well-formed bodies of one cutout; `path` is that of the protocol's inference."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.images, self.ebv = cutouts(1)
        self.infer_body, self.infer_length = infer_body(self.images, self.ebv, ("pdf", "z_mean"))
        self.infer = infer_request(path, self.images, self.ebv, "pdf", "z_mean")
        self.npz = npz(1)

    @cached_property
    def npy(self) -> bytes:
        """The cutout as a .npy file."""
        file = io.BytesIO()
        np.save(file, self.images)
        return file.getvalue()

    @cached_property
    def json(self) -> bytes:
        """The cutout in the JSON of `/predict`, three digits a pixel: 100 kB."""
        return json.dumps({"images": np.round(self.images, 3).tolist(), "ebv": [0.03], "pdf": False}).encode()

    @cached_property
    def bomb(self) -> bytes:
        """A stream of deflate, 1 MB long, that unpacks into 1 GB of zeros and does not end."""
        packer = zlib.compressobj(9)
        block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
        again = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)  # without the head of the stream
        return block + again * 1023
