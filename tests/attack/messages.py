"""Whole HTTP requests for all endpoints, formats, options and errors, the same each time, for the shipped model.

`benchmarks.replay` sends each of them; `attacks` changes them at random.
"""

import gzip
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.environment import ROOT
from benchmarks.harness.http_client import request, request_head
from photoz.images import SDSS_IMAGES
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor
from tests.attack import malformed_inputs as malformed
from tests.attack.files import fits_files, hdf5_files, make_npz, npy_bytes, npz_bytes, odd_fits_files

INFER = "/v2/models/photoz/infer"
GALAXIES, EBV = cutouts(3)
NAMES, Z_SPEC = np.array(["NGC 1", "é", "=1"]), np.array([0.1, 0.2, 0.3])
COLUMNS = {"ebv": EBV, "object_id": NAMES, "z_spec": Z_SPEC}
# PDFs of ten galaxies: bumps of several widths.
PDFS = np.exp(-0.5 * ((np.linspace(0.0, 0.4, 180) - np.linspace(0.05, 0.3, 10)[:, None]) / 0.02) ** 2)
PDFS /= PDFS.sum(axis=1, keepdims=True)
EVALUATED = npz_bytes(pdfs=PDFS, z_spec=np.linspace(0.06, 0.31, 10))

DTYPES = ("f4", ">f8", "f2", "i2", ">i4", "u1", "i8", "f8")
TYPES = ("application/json", "text/csv", "application/x-npz", "application/jsonl", "application/fits") + (
    *("application/x-votable+xml", "application/x-hdf5", "application/x-qp+hdf5", "application/vnd.apache.parquet"),
    *("text/*", "image/png", "text/csv;q=0.1, application/x-npz;q=0.2", "*/*;q=0", "", "application/json;q=abc"),
)
PLOTS = ("scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked")
PREDICT, CUTOUTS, EVALUATE, JSON = "/predict_file", "/cutouts", "/evaluate", "application/json"
REPORT = request("POST", EVALUATE, EVALUATED, "Accept: text/html")

Message = tuple[str, bytes]  # what it is, and its bytes


def http_messages() -> Iterator[Message]:
    """Yield GET, other methods, and odd headers."""
    ui = [f"/ui/{path.name}" for path in sorted((ROOT / "service" / "ui").iterdir())]
    paths = ["/", "/ui", *ui, "/ui/sample.npz", "/ui/options.json", "/docs", "/docs.json", "/model", "/metrics"]
    paths += ["/livez", "/readyz", "/healthz", "/v2", "/v2/", "/v2/health/live", "/v2/health/ready"]
    models = ("photoz", "photoz/", "photoz/ready", "other", "other/ready", "photoz/versions/9")
    paths += [f"/v2/models/{name}" for name in models]
    for path in (*paths, *malformed.PATHS, "/predict", "/sky", INFER):
        yield f"GET {path[:60]}", request("GET", latin(path))
    for method, path in itertools.product((*malformed.METHODS, "POST"), (PREDICT, "/livez", "/v2/repository/index")):
        yield f"{method[:9]!r} {path}", request(method, path)
    for line in malformed.HEADERS:
        yield f"file with {line[:50]!r}", request("POST", PREDICT, npz_bytes(images=GALAXIES), latin(line))
        yield f"GET with {line[:50]!r}", request("GET", "/model", b"", latin(line))


def option_messages() -> Iterator[Message]:
    """Yield media types and query options of predictions."""
    file = npz_bytes(images=GALAXIES, ebv=EBV, object_id=NAMES)
    for accept, query in itertools.product(TYPES, ("", "?pdf=true")):
        yield f"as {accept}{query}", request("POST", PREDICT + query, file, f"Accept: {accept}")
    for query in (*malformed.QUERIES, "ebv=0.3", "ebv=-1", "ebv=99", "x=1", "pdf=1", "pdf=true&ebv=0.2"):
        yield f"file with {query}", request("POST", f"{PREDICT}?{query}", npy_bytes(GALAXIES))
    for kind in ("application/json", "text/plain", "application/x-npz", "application/fits", "a/b; c=d"):
        for path in (PREDICT, "/predict", EVALUATE, CUTOUTS, "/sky", INFER):
            yield f"{kind} to {path}", request("POST", path, file, content_type=kind)


def file_messages() -> Iterator[Message]:
    """Yield `.npy` and `.npz` files for `/predict_file` and `/cutouts`, well-formed and not."""
    masked, empty = GALAXIES.copy(), GALAXIES.copy()
    masked[0, 3:9, :, 2], masked[1, 0, 0], empty[1] = np.nan, np.inf, np.nan
    files = {f"npy {dtype}": npy_bytes(GALAXIES.astype(dtype)) for dtype in DTYPES}
    files |= {f"npz {dtype}": npz_bytes(images=GALAXIES.astype(dtype), ebv=EBV.astype(dtype)) for dtype in DTYPES}
    files |= {"npy of one": npy_bytes(GALAXIES[0]), "npy by columns": npy_bytes(np.asfortranarray(GALAXIES))}
    files |= {"masked": npy_bytes(masked), "cutout without pixels": npy_bytes(empty)}
    files["npz, packed"] = make_npz({}, zipfile.ZIP_DEFLATED, {"images": masked, "ebv": EBV})
    odd_names = (np.arange(3), np.array(["a"] * 3), np.array(["x" * 257] * 3), np.array(["a"]), np.ones(3))
    for names in (NAMES, *odd_names, *(np.array([name] * 3) for name in malformed.OBJECT_IDS)):
        files[f"names {names!r:.40}"] = npz_bytes(images=GALAXIES, object_id=names, z_spec=Z_SPEC, other=EBV)
    for ebv in (np.array([0.1, np.nan, 0.2]), np.float64(0.1), -EBV, EBV + 11, EBV[:2], *malformed.REDDENINGS):
        files[f"ebv {ebv!r:.40}"] = npz_bytes(images=GALAXIES, ebv=ebv)
    for value in malformed.PIXELS:
        files[f"pixels {value}"] = npy_bytes(np.full_like(GALAXIES[:1], value))
    files |= {f"shape {shape}": npy_bytes(np.ones(shape, np.float32)) for shape in malformed.SHAPES}
    files |= {f"dtype {dtype}": npy_bytes(np.zeros((1, 64, 64, 5), dtype)) for dtype in malformed.DTYPES}
    whole = npy_bytes(GALAXIES)
    files |= {"nothing": b"", "text": b"hello", "cut": whole[:-1], "more": whole + b"x", "no images": npz_bytes(a=EBV)}
    for name, content in {"images.npy": malformed.PICKLE, "../images.npy": whole, "images": whole}.items():
        files[f"npz with {name} of {len(content)}"] = make_npz({name: content})
    files["many members"] = make_npz({f"a{number}.npy": b"" for number in range(3000)})
    yield from _uploads(files)


def described_file_messages() -> Iterator[Message]:
    """Yield FITS and HDF5 files, which the service decodes in a process of their own."""
    columns = COLUMNS | {"object_id": ["NGC 1", "b", "c"]}
    files = fits_files(GALAXIES, SDSS_IMAGES.bands, columns) | odd_fits_files(GALAXIES, SDSS_IMAGES.bands)
    files |= {f"HDF5 {name}": content for name, content in hdf5_files(GALAXIES, SDSS_IMAGES, COLUMNS).items()}
    yield from _uploads(files | {f"{name}, cut": files[name][:5000] for name in ("cube", "HDF5 ours")})


def _uploads(files: Mapping[str, bytes]) -> Iterator[Message]:
    for what, content in files.items():
        yield f"file: {what}", request("POST", f"{PREDICT}?pdf=true", content)
        yield f"cutouts of {what}", request("POST", CUTOUTS, content)


def evaluation_messages() -> Iterator[Message]:
    """Yield labelled galaxies for scores, reports and plots, as files and as JSON."""
    several, three = np.tile(PDFS, (4, 1)), PDFS[:3]
    contents = {
        "images": {"images": GALAXIES, **COLUMNS},
        "unknown z_spec": {"images": GALAXIES, "z_spec": np.array([np.nan, 0.1, 5.0])},
        "magnitudes": {"pdfs": several, "z_spec": np.linspace(0.05, 0.35, 40), "magnitudes": np.linspace(14, 18, 40)},
        "magnitudes of bands": {"images": GALAXIES, "z_spec": Z_SPEC, "magnitudes": np.full((3, 5), 17.0)},
        "neither": {"z_spec": Z_SPEC},
        "both": {"z_spec": Z_SPEC, "images": GALAXIES, "pdfs": three},
        "other bins": {"z_spec": Z_SPEC, "pdfs": three[:, :9]},
    }
    odd = {"negative": -three, "not finite": three * np.nan, "zero": three * 0, "text": np.array("x")}
    contents |= {f"PDFs {what}": {"z_spec": Z_SPEC, "pdfs": pdfs} for what, pdfs in odd.items()}
    contents |= {f"z_spec {add:+}": {"z_spec": Z_SPEC + add, "pdfs": three} for add in (-1, 9, np.nan)}
    for what, arrays in contents.items():
        yield f"evaluate {what}", request("POST", EVALUATE, npz_bytes(**arrays))
        yield f"report of {what}", request("POST", EVALUATE, npz_bytes(**arrays), "Accept: text/html")
    some = {"z_spec": [0.1, None, 0.3], "pdfs": three.tolist(), "object_id": ["a", "b", "c"]}
    for change in ({}, {"magnitudes": [17, None, 18]}, {"z_spec": ["x"]}, {"x": 1}):
        content = json.dumps(some | change).encode()
        yield f"evaluate JSON with {change}", request("POST", EVALUATE, content, content_type=JSON)
    for plot, media_type in itertools.product(PLOTS, ("image/png", "image/svg+xml")):
        whole = request("POST", f"{EVALUATE}?plot={plot}", EVALUATED, f"Accept: {media_type}")
        yield f"{plot} as {media_type}", whole
    for query in (*malformed.EVALUATIONS, "plot=pdfs&num_images=2&seed=5", "seed=1", "x=1", "plot=pit&plot=qq"):
        yield f"evaluate with {query}", request("POST", f"{EVALUATE}?{query}", EVALUATED)
    for accept in ("application/json", "image/png", "text/csv"):
        yield f"evaluate as {accept}", request("POST", EVALUATE, EVALUATED, f"Accept: {accept}")


def json_messages() -> Iterator[Message]:
    """Yield JSON for `/predict`, `/evaluate` and `/sky`."""
    image = np.round(GALAXIES[:1], 3).tolist()
    changes: list[dict[str, Any]] = [{}, {"pdf": True}, {"images": image[0]}, {"z": 1}, {"pdf": "yes"}]
    changes += [{"ebv": ebv} for ebv in (0.1, [0.1], [None], -1, [1, 2], "x")]
    changes += [{"object_id": names} for names in (["é"], [7], [None], "a", [], ["x" * 300])]
    changes += [{"images": odd} for odd in (*malformed.ODD_VALUES, [[[[None] * 5] * 64] * 64])]
    for change in changes:
        body = json.dumps({"images": image} | change).encode()
        yield f"JSON with {change!r:.40}", request("POST", "/predict", body, content_type=JSON)
    for accept in TYPES[:10]:
        body = json.dumps({"images": image, "pdf": True}).encode()
        yield f"JSON as {accept}", request("POST", "/predict", body, f"Accept: {accept}", content_type=JSON)
    odd = (b"", b"{", b"[]", b"null", b"\xff", b'{"images": [[[[NaN]]]]}', b"[" * 99_999, b'{"a": 1, "a": 2}')
    for body, path in itertools.product((*odd, b'{"images": ' + b"[" * 300), ("/predict", EVALUATE)):
        yield f"JSON {body[:20]!r} to {path}", request("POST", path, body, content_type=JSON)
    for body in (b'{"ra": 1, "dec": 2}', b'{"ra": 999, "dec": 2}', b"{}"):
        yield f"sky {body!r}", request("POST", "/sky", body, content_type=JSON)


def inference_messages() -> Iterator[Message]:
    """Yield requests of the Open Inference Protocol."""
    images, ebv = Tensor.of("images", GALAXIES), Tensor.of("ebv", EBV)
    named = [images, ebv, Tensor.of("object_id", NAMES)]
    outputs = ([], ["pdf"], ["z_mean", "flags", "object_id"], ["ood_score", "z_lo68"], ["nothing"], ["pdf", "pdf"])
    for names, binary in itertools.product(outputs, (True, False)):
        yield f"infer {names}, binary {binary}", _infer(named, names, binary=binary, request_id="7")
    for dtype in ("FP16", "FP64", "INT8", "INT16", "UINT8", "INT64", "UINT64"):
        yield f"infer {dtype}", _infer([Tensor("images", dtype, GALAXIES[:1])], ["z_mean"])
    other, four_bands = Tensor.of("x", EBV), Tensor.of("images", GALAXIES[..., :4])
    for inputs in ([ebv], [images, images], [images, other], [four_bands], []):
        yield f"infer {[tensor.name for tensor in inputs]}", _infer(inputs, ["z_mean"])
    message = encode_request(named, ["pdf", "z_mean"])
    body, line = bytes(message.body), f"{HEADER_LENGTH}: {message.header_length}"
    for coding, packed in (("gzip", gzip.compress(body, 1, mtime=0)), ("deflate", zlib.compress(body)), ("br", body)):
        yield f"infer {coding}", request("POST", INFER, packed, line, f"Content-Encoding: {coding}")
        yield f"infer, answer in {coding}", request("POST", INFER, body, line, f"Accept-Encoding: {coding}")
        yield f"infer {coding}, cut", request("POST", INFER, packed[:5000], line, f"Content-Encoding: {coding}")
    for path in ("/v2/models/other/infer", "/v2/models/photoz/versions/9/infer", INFER + "/", INFER + "?pdf=true"):
        yield f"infer at {path}", request("POST", path, body, line)
    for length in ("-1", "0", "5", "10000000", "abc", ""):
        yield f"infer, JSON of {length}", request("POST", INFER, body, f"{HEADER_LENGTH}: {length}")


def broken_messages() -> Iterator[Message]:
    """Yield messages that break the rules of HTTP; some get no answer."""
    for length in malformed.CONTENT_LENGTHS:
        yield f"length {length}", request_head("POST /predict_file", f"Content-Length: {length}") + b"12345"
    for coding in malformed.CODINGS:
        yield f"coding {coding}", request_head("POST /predict", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n"
        smuggled = b"0\r\n\r\n" + request_head("GET /smuggled")
        lines = ("Content-Length: 4", f"Transfer-Encoding: {coding}")
        yield f"length and coding {coding}", request_head("POST /predict", *lines) + smuggled
    for chunks in malformed.CHUNKS:
        yield f"chunks {chunks[:30]!r}", request_head("POST /predict", "Transfer-Encoding: chunked") + chunks
    for content in malformed.NOT_HTTP:
        yield f"not HTTP {content[:30]!r}", content
    for version in malformed.VERSIONS:
        yield f"version {version!r}", request("GET", "/livez").replace(b"HTTP/1.1", version, 1)


GROUPS = {
    "HTTP": http_messages,
    "options": option_messages,
    "files": file_messages,
    "described files": described_file_messages,
    "evaluations": evaluation_messages,
    "JSON": json_messages,
    "inference": inference_messages,
    "broken": broken_messages,
}


@cache
def group(name: str) -> tuple[Message, ...]:
    """Return the messages of a group."""
    return tuple(GROUPS[name]())


def _infer(inputs: list[Tensor], outputs: list[str], **options: Any) -> bytes:
    message = encode_request(inputs, outputs, **options)
    lines = [f"{HEADER_LENGTH}: {message.header_length}"] if message.header_length else []
    return request("POST", INFER, bytes(message.body), *lines)


def latin(text: str) -> str:
    """Spell text so that it is sent as UTF-8."""
    return text.encode().decode("latin-1")
