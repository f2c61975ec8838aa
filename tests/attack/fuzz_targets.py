"""Fuzz targets: the decoders of request bodies as functions of bytes, used by the fuzzer and the tests.

A target checks the result of decoding. A `PhotozError` refuses the input; any other exception is a finding.
"""

import contextlib
import io
import zipfile
from types import SimpleNamespace
from unittest import mock

import numpy as np

from photoz.errors import PhotozError
from photoz.images import Batch
from photoz.io.npz import read_npz
from photoz.protocol import open_inference as protocol
from photoz.protocol.contract import PredictRequest
from photoz.protocol.tensors import NUMBERS
from photoz.validation import as_batch, as_labelled
from service import evaluate as evaluation
from service.compression import COMPRESSORS, WINDOW_BITS, decompressed
from service.decoding import read_file
from service.formats import infer as infer_format
from service.formats import json
from tests.attack import corpus
from tests.attack.corpus import CARD, GRID, MAX_BYTES, MAX_ROWS, SPEC
from tests.attack.malformed_inputs import NPY_FILES
from tests.service.requests import make_request

READER = SimpleNamespace(spec=SPEC)  # a child reads FITS and HDF5


def infer(body, header_length=None):
    """Decode a request of `/v2/models/{name}/infer`; check that its tensors are unchanged by a round trip."""
    inputs = protocol.decode_request(body, header_length, max_texts=MAX_ROWS).inputs
    message = protocol.encode_request(inputs.values())
    again = protocol.decode_request(message.body, message.header_length).inputs
    for name, tensor in inputs.items():
        assert tensor.array.dtype == NUMBERS.get(tensor.datatype, np.dtype(object))
        np.testing.assert_array_equal(again[name].array, tensor.array, strict=True)
    return checked(as_batch(infer_format.decode([body], header_length, MAX_ROWS).arrays, CARD, MAX_ROWS))


def predict_json(body):
    """Decode a request of `/predict`."""
    return checked(as_batch(json.as_arrays(json.decode(body, PredictRequest)), CARD, MAX_ROWS))


def predict_file(body):
    """Decode a request of `/predict_file`."""
    return checked(as_batch(run_inline(read_file(make_request(body), READER, MAX_BYTES)), CARD, MAX_ROWS))


def evaluate(body):
    """Decode a request of `/evaluate` and check the result."""
    state = SimpleNamespace(files=READER, max_bytes=MAX_BYTES)
    galaxies = as_labelled(run_inline(evaluation._read(make_request(body), state)), CARD, MAX_ROWS)
    n, source = len(galaxies.z_spec), galaxies.source
    assert 0 < n == len(galaxies.object_id) == len(source)
    assert galaxies.magnitudes is None or galaxies.magnitudes.shape == (n,)
    assert GRID.contains(galaxies.z_spec).all()
    if isinstance(source, Batch):
        checked(source)
    else:
        np.testing.assert_allclose(source @ np.ones(GRID.n_bins), 1.0)
    return galaxies


def run_inline(coroutine):
    """Run a coroutine without an event loop; the steps that it would run in a thread run in this one."""

    async def call(function, *arguments):
        return function(*arguments)

    with mock.patch("service.steps.offload", call):
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
    raise AssertionError("expected a coroutine that waits for nothing")


def checked(batch):
    """Check what every engine relies on."""
    n, images = len(batch), batch.images
    assert 0 < n <= MAX_ROWS
    assert images.shape == (n, *SPEC.shape)
    assert images.dtype == batch.ebv.dtype == np.float32
    assert images.flags.c_contiguous
    assert np.isfinite(images).all()
    assert batch.ebv.shape == batch.names.shape == (n,)
    assert (batch.ebv[batch.ebv_assumed] == CARD.inputs.ebv_default).all()
    assert (((batch.ebv >= 0) & (batch.ebv <= 10)) | batch.ebv_assumed).all()
    return batch


def fuzz_open_inference(data):
    header, separator, tensors = data.partition(b"\0")  # which JSON has not
    infer(header + tensors, len(header) if separator else None)


def fuzz_compression(data):
    async def receive():
        return {"type": "http.request", "body": data, "more_body": False}

    def unpack(encoding):
        receive_part, n_bytes, more = decompressed(make_request(b"", content_encoding=encoding), receive), 0, True
        while more and n_bytes <= MAX_BYTES:
            message = run_inline(receive_part())
            n_bytes, more = n_bytes + len(message["body"]), message["more_body"]

    for encoding in WINDOW_BITS:
        run_all((unpack,), encoding)


def run_all(functions, argument):
    """Call all functions; each may refuse its argument."""
    for function in functions:
        with contextlib.suppress(PhotozError):
            function(argument)


TARGETS = {
    "open_inference": fuzz_open_inference,
    "file": lambda data: run_all((predict_file, evaluate, lambda body: read_npz(io.BytesIO(body))), data),
    "json": lambda data: run_all((predict_json, evaluate), data),
    "compression": fuzz_compression,
}


def run(name, data):
    """Run a target."""
    run_all((TARGETS[name],), data)


SEEDS = {
    "open_inference": [
        body if length is None else bytes(body[:length]) + b"\0" + bytes(body[length:])
        for body, length in ((message.body, message.header_length) for message in corpus.INFER_MESSAGES)
    ],
    "file": [
        *(*corpus.NPY_FILES, *corpus.npz_files(zipfile.ZIP_STORED), *corpus.npz_files(zipfile.ZIP_DEFLATED)),
        *(file for file, _ in NPY_FILES.values()),
    ],
    "json": [*corpus.PREDICT_BODIES, *corpus.EVALUATE_BODIES],
    "compression": [compress(plain) for compress in COMPRESSORS.values() for plain in (bytes(999), bytes(10**6))],
}
