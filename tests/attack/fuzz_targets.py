"""Fuzz targets: the decoders of request bodies as functions of bytes, used by the fuzzer and the tests.

A target checks the result of decoding. A `PhotozError` refuses the input; any other exception is a finding.
"""

import contextlib
import io
import zipfile
from collections.abc import Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from starlette.types import Message

from photoz.errors import PhotozError
from photoz.images import Batch
from photoz.io.npz import read_npz
from photoz.protocol import open_inference as protocol
from photoz.protocol import tensors
from photoz.protocol.contract import PredictRequest
from service import evaluate as evaluation
from service.compression import COMPRESSORS, WINDOW_BITS, decompressed
from service.decoding import read_file
from service.formats import infer as infer_format
from service.formats import json
from service.validation import LabelledGalaxies, as_batch, as_labelled
from tests.attack import corpus
from tests.attack.corpus import CARD, GRID, IMAGES, MAX_BYTES, MAX_ROWS, SPEC
from tests.attack.files import make_npz, npy_bytes, npy_with_header
from tests.attack.malformed_inputs import NPY_HEADERS
from tests.service.requests import make_request

T = TypeVar("T")

# What the endpoints take from `service.state.State`; no target reads FITS or HDF5, which a child does.
STATE: Any = SimpleNamespace(files=None, max_bytes=MAX_BYTES)


def infer(body: bytes, header_length: int | None = None) -> Batch:
    """Decode a request of `/v2/models/{name}/infer` and check the result."""
    check_round_trip(protocol.decode_request(body, header_length, max_texts=MAX_ROWS))
    return checked(as_batch(infer_format.decode([body], header_length, MAX_ROWS).arrays, CARD, MAX_ROWS))


def predict_json(body: bytes) -> Batch:
    """Decode a request of `/predict` and check the result."""
    return checked(as_batch(json.as_arrays(json.decode(body, PredictRequest)), CARD, MAX_ROWS))


def predict_file(body: bytes) -> Batch:
    """Decode a request of `/predict_file` and check the result."""
    arrays = run_inline(read_file(make_request(body), STATE.files, STATE.max_bytes))
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    return checked(as_batch(arrays, CARD, MAX_ROWS))


def evaluate(body: bytes) -> LabelledGalaxies:
    """Decode a request of `/evaluate` and check the result."""
    galaxies = as_labelled(run_inline(evaluation._read(make_request(body), STATE)), CARD, MAX_ROWS)
    n = len(galaxies.z_spec)
    assert 0 < n == len(galaxies.object_id) == len(galaxies.source)
    assert galaxies.magnitudes is None or galaxies.magnitudes.shape == (n,)
    assert GRID.contains(galaxies.z_spec).all()
    if isinstance(galaxies.source, Batch):
        checked(galaxies.source)
    else:
        assert galaxies.source.shape == (n, GRID.n_bins)
        np.testing.assert_allclose(galaxies.source.sum(axis=1), 1.0)
    return galaxies


def run_inline(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine without an event loop; the steps that it would run in a thread run in this one."""

    async def call(function: Callable[..., T], *arguments: object) -> T:
        return function(*arguments)

    with mock.patch("service.steps.offload", call):
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
    raise AssertionError("expected a coroutine that waits for nothing")


def checked(batch: Batch) -> Batch:
    """Check what every engine relies on."""
    n, images = len(batch), batch.images
    assert 0 < n <= MAX_ROWS
    assert images.shape == (n, *SPEC.shape)
    assert images.dtype == batch.ebv.dtype == np.float32
    assert images.flags.c_contiguous
    assert np.isfinite(images).all()
    assert batch.ebv.shape == batch.names.shape == (n,)
    assert (batch.ebv[batch.ebv_assumed] == CARD.inputs.ebv_default).all()
    assert ((batch.ebv >= 0) | batch.ebv_assumed).all()
    assert (batch.ebv <= 10).all()
    return batch


def check_round_trip(request: protocol.DecodedRequest) -> None:
    """Check the dtypes of the tensors, and that encoding and decoding does not change them."""
    for tensor in request.inputs.values():
        assert tensor.array.dtype == tensors.NUMBERS.get(tensor.datatype, np.dtype(object))
    message = protocol.encode_request(request.inputs.values())
    again = protocol.decode_request(message.body, message.header_length).inputs
    for name, tensor in request.inputs.items():
        np.testing.assert_array_equal(again[name].array, tensor.array, strict=True)


# The first two bytes of an input of the target "open_inference": the length of the JSON, or this if all is JSON.
NO_HEADER = 0xFFFF


def infer_input(body: bytes, header_length: int | None) -> bytes:
    return (NO_HEADER if header_length is None else header_length).to_bytes(2, "little") + body


def fuzz_open_inference(data: bytes) -> None:
    header_length = int.from_bytes(data[:2], "little")
    infer(data[2:], None if header_length == NO_HEADER else header_length)


# First byte of an input of the target "file" -> the member of a `.npz` file, with right checksums, that the rest is.
MEMBERS = {b"i": "images.npy", b"I": "images.npy", b"o": "object_id.npy", b"e": "ebv.npy", b"z": "z_spec.npy"}
OTHER_ARRAYS = {"images": IMAGES[:1], "z_spec": corpus.Z_SPEC[:1]}


def fuzz_file(data: bytes) -> None:
    """Read a member of a `.npz` file (see `MEMBERS`), a `.npy` file from a header and data (h), or a whole file."""
    kind, body = data[:1], data[1:]
    readers: tuple[Callable[[bytes], object], ...] = (predict_file, evaluate)
    if kind in MEMBERS:
        method = zipfile.ZIP_DEFLATED if kind.isupper() else zipfile.ZIP_STORED
        body = make_npz({MEMBERS[kind]: body}, method, OTHER_ARRAYS)
    elif kind == b"h":
        header, _, numbers = body.partition(b"\n")
        body = npy_with_header(header, numbers)
    else:
        readers = (*readers, lambda body: read_npz(io.BytesIO(body)))
    run_all(readers, body)


def fuzz_json(data: bytes) -> None:
    run_all((predict_json, evaluate), data)


def fuzz_compression(data: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    def unpack(encoding: str) -> None:
        receive_part, n_bytes, more = decompressed(make_request(b"", content_encoding=encoding), receive), 0, True
        while more and n_bytes <= MAX_BYTES:
            message = run_inline(receive_part())
            n_bytes, more = n_bytes + len(message["body"]), message["more_body"]

    for encoding in WINDOW_BITS:
        run_all((unpack,), encoding)


def run_all(functions: tuple[Callable[..., object], ...], argument: object) -> None:
    """Call all functions; each may refuse its argument."""
    for function in functions:
        with contextlib.suppress(PhotozError):
            function(argument)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "open_inference": fuzz_open_inference,
    "file": fuzz_file,
    "json": fuzz_json,
    "compression": fuzz_compression,
}


def run(name: str, data: bytes) -> None:
    """Run a target."""
    run_all((TARGETS[name],), data)


_FILES = [*corpus.npy_files(), *corpus.npz_files(zipfile.ZIP_STORED), *corpus.npz_files(zipfile.ZIP_DEFLATED)]
_MEMBERS = {b"o": np.array([b"a"]), b"e": corpus.EBV[:1], b"z": corpus.Z_SPEC[:1]}
SEEDS: Mapping[str, list[bytes]] = {
    "open_inference": [infer_input(message.body, message.header_length) for message in corpus.INFER_MESSAGES],
    "file": [
        *(b"-" + file for file in _FILES),
        *(kind + file for file in corpus.npy_files() for kind in (b"i", b"I")),
        *(kind + npy_bytes(array) for kind, array in _MEMBERS.items()),
        b"h{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8, 8, 2)}\n" + IMAGES.tobytes(),
        *(b"h" + header.encode() for header in NPY_HEADERS),
    ],
    "json": [*corpus.PREDICT_BODIES, *corpus.EVALUATE_BODIES],
    "compression": [compress(plain) for compress in COMPRESSORS.values() for plain in (IMAGES.tobytes(), bytes(10**6))],
}
