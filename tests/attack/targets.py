"""What decodes bytes from the wire, as functions of these bytes: the tests attack them, and so does the fuzzer.

Each target either checks what came out or swallows a `PhotozError`, which is a refusal; any other exception is a
finding.
"""

import contextlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from photoz.errors import PhotozError
from photoz.grid import RedshiftGrid
from photoz.images import ImageSpec
from photoz.io.npz import read_npz
from photoz.model.card import Card
from photoz.protocol import tensors
from photoz.protocol.open_inference import Request, decode_request, encode_request
from service import decode
from service.batch import Batch, Labelled, as_batch, as_labelled, unpacked_limit
from service.call import Call
from service.compression import WINDOWS, decompress
from service.v2.tensors import as_arrays, wanted_outputs

Target = Callable[[bytes], None]

MAX_ROWS = 16
# The smallest cutouts that there may be, so that a whole request fits into the few kB which a fuzzer tries.
SPEC = ImageSpec(size=8, bands="gr")
GRID = RedshiftGrid(0.4, 10)
_SHIPPED = Path(__file__).parents[2] / "models" / "photoz" / "card.json"
CARD = Card.model_validate_json(_SHIPPED.read_bytes()).model_copy(update={"image": SPEC, "grid": GRID})
LIMIT = unpacked_limit(CARD, MAX_ROWS)

NO_HEADER = 0xFFFF

# First byte of an input of the target "file" -> the array of a `.npz` file that the others are; beside it stand these.
MEMBERS = {"i": "images.npy", "I": "images.npy", "o": "object_id.npy", "e": "ebv.npy", "z": "z_spec.npy"}
OTHERS = {"images": np.ones((1, *SPEC.shape), np.float32), "z_spec": np.array([0.1])}


def call(body: bytes, media_type: str = "", query: Mapping[str, str] | None = None) -> Call:
    return Call(body=body, media_type=media_type, accept="*/*", query=query or {})


def infer(body: bytes, header_length: int | None = None) -> Batch:
    """Do what `/v2/models/{name}/infer` does before it predicts, and check it."""
    request = decode_request(body, header_length, max_texts=MAX_ROWS)
    check_request(request)
    wanted_outputs(request)
    return checked(as_batch(as_arrays(request, MAX_ROWS), CARD, MAX_ROWS))


def predict_json(body: bytes) -> Batch:
    arrays, _ = decode.predict_json(call(body))
    return checked(as_batch(arrays, CARD, MAX_ROWS))


def predict_file(body: bytes) -> Batch:
    arrays, _ = decode.predict_file(call(body), LIMIT)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    return checked(as_batch(arrays, CARD, MAX_ROWS))


def evaluate(body: bytes, media_type: str = "") -> Labelled:
    labelled = as_labelled(decode.evaluation(call(body, media_type), LIMIT), CARD, MAX_ROWS)
    n = len(labelled.z_spec)
    assert 0 < n == len(labelled.object_id) == len(labelled.source)
    assert labelled.magnitudes is None or labelled.magnitudes.shape == (n,)
    assert GRID.contains(labelled.z_spec).all()
    if isinstance(labelled.source, Batch):
        checked(labelled.source)
    else:
        assert labelled.source.shape == (n, GRID.n_bins)
        np.testing.assert_allclose(labelled.source.sum(axis=1), 1.0)
    return labelled


def checked(batch: Batch) -> Batch:
    """Check what every engine relies on."""
    n = len(batch)
    assert 0 < n <= MAX_ROWS
    assert batch.images.images.shape == (n, *SPEC.shape)
    assert batch.images.images.dtype == batch.ebv.ebv.dtype == np.float32
    assert batch.images.images.flags.c_contiguous
    assert np.isfinite(batch.images.images).all()
    assert batch.ebv.ebv.shape == batch.names.shape == (n,)
    assert ((batch.ebv.ebv >= 0) & (batch.ebv.ebv <= 10)).all()
    return batch


def check_request(request: Request) -> None:
    """Check that each array is what its datatype says, and that it stays so on its way out and in again."""
    inputs = request.inputs
    for tensor in inputs.values():
        expected = tensors.NUMBERS.get(tensor.datatype, np.dtype(object))
        assert tensor.array.dtype == expected
    message = encode_request(inputs.values())
    again = decode_request(message.body, message.header_length).inputs
    assert again.keys() == inputs.keys()
    for name, tensor in inputs.items():
        assert again[name].array.shape == tensor.array.shape
        np.testing.assert_array_equal(again[name].array, tensor.array)


def fuzz_v2(data: bytes) -> None:
    """Take the first two bytes for the header that tells where the JSON ends."""
    header_length = int.from_bytes(data[:2], "little")
    infer(data[2:], None if header_length == NO_HEADER else header_length)


def fuzz_file(data: bytes) -> None:
    """Let the first byte say what the others are: a whole file, or an array of a `.npz` file with right checksums."""
    kind, body = data[:1].decode("latin1"), data[1:]
    read: tuple[Callable[[bytes], object], ...] = (predict_file, evaluate)
    if kind in MEMBERS:
        method = zipfile.ZIP_DEFLATED if kind.isupper() else zipfile.ZIP_STORED
        body = packed({MEMBERS[kind]: body}, method, OTHERS)
    elif kind == "h":
        header, _, numbers = body.partition(b"\n")
        body = npy_with_header(header, numbers)
    else:
        read = (*read, lambda body: read_npz(io.BytesIO(body)))
    for function in read:
        with contextlib.suppress(PhotozError):
            function(body)


def packed(
    members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, arrays: Mapping[str, np.ndarray] | None = None
) -> bytes:
    """Make a `.npz` file of bytes and, where their names are free, of arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, array in (arrays or {}).items():
            if f"{name}.npy" not in members:
                archive.writestr(f"{name}.npy", npy(array))
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npy_with_header(header: bytes, numbers: bytes = b"", version: int = 1) -> bytes:
    """Make a `.npy` file with a header of one's own."""
    length = len(header) + 1
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + length.to_bytes(2 if version == 1 else 4, "little")
        + header
        + b"\n"
        + numbers
    )


def fuzz_json(data: bytes) -> None:
    """Give the bytes to both endpoints that take JSON."""
    for read in (predict_json, evaluate):
        with contextlib.suppress(PhotozError):
            read(data)


def fuzz_compression(data: bytes) -> None:
    """Unpack the bytes by either method; never more comes out than is allowed."""
    for encoding in WINDOWS:
        with contextlib.suppress(PhotozError):
            assert len(decompress(data, encoding, LIMIT)) <= LIMIT


TARGETS: Mapping[str, Target] = {
    "v2": fuzz_v2,
    "file": fuzz_file,
    "json": fuzz_json,
    "compression": fuzz_compression,
}


def run(name: str, data: bytes) -> None:
    """Run a target; a refusal is an answer."""
    with contextlib.suppress(PhotozError):
        TARGETS[name](data)
