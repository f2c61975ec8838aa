"""Attacks on the contents of bodies: tensors, files, JSON, numbers and names."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from random import Random
from typing import Any

import numpy as np

from benchmarks.harness.http_client import request
from benchmarks.resilience import malformed_inputs as malformed
from benchmarks.resilience.attacks import Attack, Maker, Material
from benchmarks.resilience.known_answers import npz_of
from photoz.protocol.open_inference import HEADER_LENGTH


def mutated_tensors(random: Random, material: Material) -> Attack:
    body = malformed.mutate_bytes(random, material.infer_body)
    length = material.infer_length if random.random() < 0.8 else random.randrange(2 * len(body) + 2)
    return _infer("mutated tensors", material, body, length)


def tensor_header(random: Random, material: Material) -> Attack:
    head, data = material.infer_body[: material.infer_length], material.infer_body[material.infer_length :]
    changed = malformed.mutate_json(random, head) or head
    return _infer("odd JSON of the protocol", material, changed + data, len(changed))


def tensor_names(random: Random, material: Material) -> Attack:
    """Send names whose lengths are false, or that are not text."""
    head, data = material.infer_body[: material.infer_length], material.infer_body[material.infer_length :]
    name = random.choice((b"g0", b"\xff\xfe", b"\xed\xa0\x80", b"", b"x" * 257, "\u00e9".encode() * 256, b"\x00"))
    raw = struct.pack("<I", random.choice((len(name), len(name), 0, 2**32 - 1, len(name) + 1))) + name
    parameters = {"binary_data_size": random.choice((len(raw), len(raw), len(raw) - 1, 10**9))}
    content = json.loads(head)
    content["inputs"].append({"name": "object_id", "shape": [1], "datatype": "BYTES", "parameters": parameters})
    content["outputs"] = [{"name": "object_id"}, {"name": "z_mean"}]
    changed = json.dumps(content).encode()
    return _infer("odd names as tensors", material, changed + data + raw, len(changed))


def packed(random: Random, material: Material) -> Attack:
    """Pack a body wrongly, or so that it unpacks into far more."""
    coding, chance = random.choice(("gzip", "deflate")), random.random()
    if chance < 0.2:
        body, coding = material.bomb[: None if chance < 0.025 else 32 * 1024], "deflate"  # 1 GB, or 32 MB
    elif chance < 0.625:
        body = malformed.mutate_bytes(random, gzip.compress(material.infer_body, 1, mtime=0))
    else:
        body = zlib.compress(material.infer_body, 1)[: random.randrange(50_000)]
    return _infer("packed body", material, body, material.infer_length, f"Content-Encoding: {coding}")


def mutated_file(random: Random, material: Material) -> Attack:
    return _file("mutated file", malformed.mutate_bytes(random, random.choice((material.npz, material.npy))))


def npy_header(random: Random, material: Material) -> Attack:
    """Declare an array that cannot be."""
    text = random.choice(malformed.NPY_HEADERS).encode() + b"\n"
    version = random.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"))
    size = struct.pack("<H" if version[:1] == b"\x01" else "<I", random.choice((len(text), len(text), 0, 65535)))
    return _file("odd header of .npy", b"\x93NUMPY" + version + size + text + material.images.tobytes())


def npz_members(random: Random, material: Material) -> Attack:
    """Send an archive with false sizes, one that unpacks into far more, or one that holds something else."""
    file, npy = io.BytesIO(), material.npy
    long, other = npy + bytes(random.choice((1, 10**6, 3 * 10**7))), malformed.mutate_bytes(random, npy)
    in_place = [("images.npy", content) for content in (long, other, malformed.PICKLE)]
    name, content = random.choice((*in_place, ("../images.npy", npy), ("images", npy), ("a", b"")))
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(random.choice((100, 3000)) if name == "a" else 1):
            member = zipfile.ZipInfo(f"a{number}.npy" if name == "a" else name)  # dated 1980: the same each time
            archive.writestr(member, content, zipfile.ZIP_DEFLATED, 1)
    body = bytearray(file.getvalue())
    if random.random() < 0.4:  # the sizes in the directory, at its end
        at = body.rfind(b"PK\x01\x02") + random.choice((10, 16, 20, 24, 42))
        body[at : at + 4] = random.choice((b"\xff\xff\xff\xff", b"\x01\x00\x00\x00", random.randbytes(4)))
    return _file("odd archive", bytes(body))


def array_shape(random: Random, material: Material) -> Attack:
    images = np.zeros(
        random.choice((*malformed.SHAPES, (1, 64, 64, 5), (1, 64, 64, 5))), random.choice(malformed.DTYPES)
    )
    return _arrays("shape or dtype", random, images=images)


def array_values(random: Random, material: Material) -> Attack:
    """Fill all of a cutout, a band or some pixels, or its reddening, with odd values."""
    images, ebv, value = material.images.copy(), material.ebv.astype(np.float64), random.choice(malformed.PIXELS)
    every, band = random.choice((1, 2, 63)), random.randrange(5)
    random.choice((images[...], images[..., band], images[0, ::every, ::2]))[...] = value
    if random.random() < 0.4:
        ebv = np.array(random.choice(malformed.REDDENINGS))
    return _arrays("values", random, images=images, ebv=ebv)


def array_names(random: Random, material: Material) -> Attack:
    texts = np.array([random.choice(malformed.OBJECT_IDS)])
    not_unicode = np.frombuffer(random.randbytes(16), "<U4")
    not_text = np.array(random.choice(([2**64 - 1], [1.5], [1j], [True], [b"\xff"], 7, [[1]], ["a", "b"], [])))
    empty = np.zeros(1, random.choice(("V4", "<M8[s]", "S300", "<U5000")))
    names = random.choice((texts, not_unicode, not_text, empty))
    return _arrays("odd names in a file", random, images=material.images, object_id=names)


def mutated_json(random: Random, material: Material) -> Attack:
    # Most of it is short, since a whole cutout takes the service long to read.
    short = b'{"images": [[[[0.1, null, 3]]]], "ebv": [0.1], "object_id": ["a"], "pdf": true}'
    body = malformed.mutate_bytes(random, short if random.random() < 0.8 else material.json)
    return Attack("mutated JSON", (request("POST", "/predict", body, content_type="application/json"),))


def odd_json(random: Random, material: Material) -> Attack:
    """Send well-formed JSON that means nothing, or that is deep."""
    short = b'{"images": [[[[0.1]]]], "ebv": [0.1], "object_id": ["a"], "pdf": false}'
    deep = b"[" * random.choice((50, 300, 100_000))
    odd = json.dumps(random.choice(malformed.ODD_VALUES)).encode()
    body = random.choice((malformed.mutate_json(random, short) or short, odd, deep, b'{"images": ' + deep))
    path = random.choice(("/predict", "/predict", "/evaluate"))
    return Attack("odd JSON", (request("POST", path, body, content_type="application/json"),))


def evaluation(random: Random, material: Material) -> Attack:
    """Ask for metrics of what has none, or for a plot that cannot be."""
    pdfs, redshifts, query = np.full((4, 180), 1 / 180), np.full(4, 0.1), ""
    arrays = {"pdfs": pdfs, "z_spec": redshifts}
    if random.random() < 0.3:
        query = "?" + random.choice(malformed.EVALUATIONS)
    else:
        odd = (pdfs * np.nan, pdfs * 0, -pdfs, redshifts - 1, redshifts * np.nan, np.ones(3), np.array("x"))
        arrays[random.choice(("pdfs", "z_spec", "magnitudes", "object_id"))] = random.choice(odd)
    whole = request("POST", "/evaluate" + query, npz_of(**arrays), content_type="application/x-npz")
    return Attack("odd evaluation", (whole,))


def _infer(kind: str, material: Material, body: bytes, length: int, *lines: str) -> Attack:
    return Attack(kind, (request("POST", material.path, body, f"{HEADER_LENGTH}: {length}", *lines),))


def _file(kind: str, body: bytes) -> Attack:
    return Attack(kind, (request("POST", "/predict_file", body, content_type="application/octet-stream"),))


def _arrays(kind: str, random: Random, **arrays: Any) -> Attack:
    line = random.choice(("Accept: */*", "Accept: text/csv", "Accept: application/x-npz"))
    path = random.choice(("/predict_file", "/predict_file?pdf=true", "/predict_file?ebv=nan"))
    return Attack(kind, (request("POST", path, npz_of(**arrays), line, content_type="application/x-npz"),))


# How often each is made, in hundredths: seldom what the service needs a child process for.
ON_BODIES: tuple[tuple[float, Maker], ...] = (
    *((8, mutated_tensors), (8, tensor_header), (3, tensor_names), (2, packed), (6, mutated_file), (3, npy_header)),
    *((3, npz_members), (6, array_shape), (6, array_values), (5, array_names), (5, mutated_json), (4, odd_json)),
    (0.7, evaluation),
)
