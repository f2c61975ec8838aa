"""Attacks on what stands in the bodies: tensors, files, JSON, numbers and names."""

import copy
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.endurance.attacks import Attack, Maker, Material, garbled
from benchmarks.endurance.client import request
from benchmarks.endurance.oddities import DTYPES, EVALUATIONS, FILLS, NPY_HEADERS, OBJECT_IDS, ODD, SHAPES
from photoz.protocol.open_inference import HEADER_LENGTH


def tensor_mutation(chance: random.Random, material: Material) -> Attack:
    """Garble the body of the protocol, somewhere."""
    body = garbled(chance, material.infer_body)
    return _infer(
        "garbled tensors",
        material,
        body,
        material.infer_length if chance.random() < 0.8 else chance.randrange(2 * len(body) + 2),
    )


def tensor_header(chance: random.Random, material: Material) -> Attack:
    """Put something odd where the protocol's JSON has something else."""
    head, data = material.infer_body[: material.infer_length], material.infer_body[material.infer_length :]
    content = json.loads(head)
    for _ in range(chance.choice((1, 1, 2))):
        _spoil(chance, content)
    spoilt = json.dumps(content).encode()
    return _infer("odd JSON of the protocol", material, spoilt + data, len(spoilt))


def tensor_names(chance: random.Random, material: Material) -> Attack:
    """Send names whose lengths lie, or that are no text."""
    head, data = material.infer_body[: material.infer_length], material.infer_body[material.infer_length :]
    name = chance.choice((b"g0", b"\xff\xfe", b"\xed\xa0\x80", b"", b"x" * 257, "é".encode() * 256, b"\x00"))
    raw = struct.pack("<I", chance.choice((len(name), len(name), 0, 2**32 - 1, len(name) + 1))) + name
    content = json.loads(head)
    size = chance.choice((len(raw), len(raw), len(raw) - 1, 10**9))
    content["inputs"].append(
        {"name": "object_id", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    )
    spoilt = json.dumps(content | {"outputs": [{"name": "object_id"}, {"name": "z_mean"}]}).encode()
    return _infer("odd names as tensors", material, spoilt + data + raw, len(spoilt))


def packed(chance: random.Random, material: Material) -> Attack:
    """Pack a body wrongly, or so that it unpacks into far more."""
    coding = chance.choice(("gzip", "deflate"))
    match chance.randrange(40):
        case 0:
            body, coding = material.bomb, "deflate"
        case rest if rest < 8:
            body, coding = material.bomb[: 32 * 1024], "deflate"  # 32 MB
        case rest if rest < 25:
            body = garbled(chance, gzip.compress(material.infer_body, 1, mtime=0))
        case _:
            body = zlib.compress(material.infer_body, 1)[: chance.randrange(50_000)]
    return _infer("packed body", material, body, material.infer_length, f"Content-Encoding: {coding}")


def file_mutation(chance: random.Random, material: Material) -> Attack:
    """Garble a file."""
    return _file("garbled file", garbled(chance, chance.choice((material.npz, material.npy))))


def npy_header(chance: random.Random, material: Material) -> Attack:
    """Claim to be an array that cannot be."""
    text = chance.choice(NPY_HEADERS).encode() + b"\n"
    version = chance.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    size = struct.pack("<H" if version[:1] == b"\x01" else "<I", chance.choice((len(text), len(text), 0, 65535)))
    return _file("odd header of .npy", b"\x93NUMPY" + version + size + text + material.images.tobytes())


def npz_members(chance: random.Random, material: Material) -> Attack:
    """Send an archive that lies, explodes, or holds something else."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        match chance.randrange(6):
            case 0:
                _add(archive, "images.npy", material.npy + bytes(chance.choice((1, 10**6, 3 * 10**7))))
            case 1:
                for number in range(chance.choice((100, 3000))):
                    _add(archive, f"a{number}.npy", b"")
            case 2:
                _add(archive, "../images.npy", material.npy)
            case 3:
                _add(archive, "images", material.npy)
            case 4:
                _add(archive, "images.npy", garbled(chance, material.npy))
            case _:
                _add(archive, "images.npy", b"cos\nsystem\n(S'true'\ntR.")
    body = bytearray(file.getvalue())
    if chance.random() < 0.4:  # the sizes in the directory, at its end
        at = body.rfind(b"PK\x01\x02") + chance.choice((10, 16, 20, 24, 42))
        body[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x01\x00\x00\x00", chance.randbytes(4)))
    return _file("odd archive", bytes(body))


def array_shape(chance: random.Random, material: Material) -> Attack:
    """Send cutouts of another shape or kind."""
    images = np.zeros(chance.choice((*SHAPES, (1, 64, 64, 5), (1, 64, 64, 5))), chance.choice(DTYPES))
    return _arrays("shape or dtype", chance, images=images)


def array_values(chance: random.Random, material: Material) -> Attack:
    """Fill a cutout, or its reddening, with what is no flux."""
    images, ebv = material.images.copy(), material.ebv.astype(np.float64)
    value = chance.choice(FILLS)
    match chance.randrange(3):
        case 0:
            images[...] = value
        case 1:
            images[..., chance.randrange(5)] = value
        case _:
            images[0, :: chance.choice((1, 2, 63)), ::2] = value
    if chance.random() < 0.4:
        ebv = np.array(chance.choice((np.nan, -1.0, 11.0, 1e308, [0.1, 0.1], [[0.1]], "x", 1j)))
    return _arrays("values", chance, images=images, ebv=ebv)


def array_names(chance: random.Random, material: Material) -> Attack:
    """Send names that are odd, or no names."""
    names: npt.NDArray[Any]
    match chance.randrange(4):
        case 0:
            names = np.array([chance.choice(OBJECT_IDS)])
        case 1:
            names = np.frombuffer(chance.randbytes(16), "<U4")  # no characters of Unicode
        case 2:
            names = np.array(chance.choice(([2**64 - 1], [1.5], [1j], [True], [b"\xff"], 7, [[1]], ["a", "b"], [])))
        case _:
            names = np.zeros(1, chance.choice(("V4", "<M8[s]", "S300", "<U5000")))
    return _arrays("odd names in a file", chance, images=material.images, object_id=names)


def json_mutation(chance: random.Random, material: Material) -> Attack:
    """Garble the JSON of /predict: most of it short, as all of it costs the service much to read."""
    short = b'{"images": [[[[0.1, null, 3]]]], "ebv": [0.1], "object_id": ["a"], "pdf": true}'
    body = garbled(chance, short if chance.random() < 0.8 else material.json)
    return Attack("garbled JSON", (request("POST", "/predict", body, content_type="application/json"),))


def json_odd(chance: random.Random, material: Material) -> Attack:
    """Send good JSON that means nothing, or a lot."""
    whole = {"images": [[[[0.1]]]], "ebv": [0.1], "object_id": ["a"], "pdf": False}
    _spoil(chance, whole)
    deep = b"[" * chance.choice((50, 300, 100_000))
    body = chance.choice(
        (
            json.dumps(whole).encode(),
            json.dumps(copy.deepcopy(chance.choice(ODD))).encode(),
            deep,
            b'{"images": ' + deep,
        )
    )
    path = chance.choice(("/predict", "/predict", "/evaluate"))
    return Attack("odd JSON", (request("POST", path, body, content_type="application/json"),))


def evaluation(chance: random.Random, material: Material) -> Attack:
    """Ask for scores of what has none."""
    arrays: dict[str, npt.NDArray[Any]] = {"pdfs": np.full((4, 180), 1 / 180), "z_spec": np.full(4, 0.1)}
    arrays[chance.choice(("pdfs", "z_spec", "magnitudes", "object_id"))] = chance.choice(
        (
            np.full((4, 180), np.nan),
            np.zeros((4, 180)),
            -np.ones((4, 180)),
            np.zeros(4) - 1,
            np.full(4, np.nan),
            np.ones(3),
            np.array("x"),
        )
    )
    return _evaluate("odd evaluation", "", arrays)


def evaluation_options(chance: random.Random, material: Material) -> Attack:
    """Ask for a plot that cannot be; seldom, since a child process draws what can."""
    arrays = {"pdfs": np.full((4, 180), 1 / 180), "z_spec": np.full(4, 0.1)}
    return _evaluate("odd options of a plot", "?" + chance.choice(EVALUATIONS), arrays)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)  # of 1980, so that it is always the same


def _spoil(chance: random.Random, content: Any) -> None:
    """Put something odd somewhere into nested JSON."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = chance.choice(keys) if keys else None
    if key is not None and isinstance(content[key], dict | list) and content[key] and chance.random() < 0.75:
        _spoil(chance, content[key])
    elif isinstance(content, list):
        content[chance.randrange(len(content)) :] = [copy.deepcopy(chance.choice(ODD))]
    elif chance.random() < 0.2:
        content.pop(key, None)
    else:
        content[chance.choice((key, key, "extra"))] = copy.deepcopy(chance.choice(ODD))


def _infer(kind: str, material: Material, body: bytes, length: int, *lines: str) -> Attack:
    return Attack(kind, (request("POST", material.path, body, f"{HEADER_LENGTH}: {length}", *lines),))


def _file(kind: str, body: bytes) -> Attack:
    return Attack(kind, (request("POST", "/predict_file", body, content_type="application/octet-stream"),))


def _arrays(kind: str, chance: random.Random, **arrays: npt.NDArray[Any]) -> Attack:
    file = io.BytesIO()
    np.savez(file, **arrays)
    wish = chance.choice(("Accept: */*", "Accept: text/csv", "Accept: application/x-npz"))
    path = chance.choice(("/predict_file", "/predict_file?pdf=true", "/predict_file?ebv=nan"))
    return Attack(kind, (request("POST", path, file.getvalue(), wish, content_type="application/x-npz"),))


def _evaluate(kind: str, query: str, arrays: dict[str, npt.NDArray[Any]]) -> Attack:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return Attack(kind, (request("POST", "/evaluate" + query, file.getvalue(), content_type="application/x-npz"),))


# In hundredths: of what a child process may have to answer, only a little.
ON_BODIES: tuple[tuple[float, Maker], ...] = (
    *((8, tensor_mutation), (8, tensor_header), (3, tensor_names), (2, packed), (6, file_mutation), (3, npy_header)),
    *((3, npz_members), (6, array_shape), (6, array_values), (5, array_names), (5, json_mutation), (4, json_odd)),
    *((0.5, evaluation), (0.2, evaluation_options)),
)
