"""Whole HTTP requests for all endpoints, formats, options and errors, the same each time, for the shipped model.

`attacks` changes them at random.
"""

import gzip
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.environment import ROOT
from benchmarks.harness.http_client import request
from photoz.images import SDSS_IMAGES
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor
from tests.attack import malformed_inputs as malformed
from tests.attack.files import fits_files, hdf5_files, make_npz, npy_bytes, npz_bytes
from tests.attack.malformed_http import CASES

INFER = "/v2/models/photoz/infer"
GALAXIES, EBV = cutouts(3)
NAMES, Z_SPEC = np.array(["NGC 1", "é", "=1"]), np.array([0.1, 0.2, 0.3])
COLUMNS = {"ebv": EBV, "object_id": NAMES, "z_spec": Z_SPEC}
# PDFs of ten galaxies: bumps of several widths.
PDFS = np.exp(-0.5 * ((np.linspace(0.0, 0.4, 180) - np.linspace(0.05, 0.3, 10)[:, None]) / 0.02) ** 2)
PDFS /= PDFS.sum(axis=1, keepdims=True)
EVALUATED = npz_bytes(pdfs=PDFS, z_spec=np.linspace(0.06, 0.31, 10))

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
    paths = [f"/ui/{path.name}" for path in sorted((ROOT / "service" / "ui").iterdir())]
    paths += ["/", "/ui", "/ui/sample.npz", "/ui/options.json", "/docs", "/docs.json", "/model", "/metrics", "/livez"]
    paths += ["/readyz", "/healthz", "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/predict", "/sky", INFER]
    models = ("photoz", "photoz/", "photoz/ready", "other", "other/ready", "photoz/versions/9")
    for path in (*paths, *(f"/v2/models/{name}" for name in models), *map(_latin, malformed.PATHS)):
        yield f"GET {path[:60]}", request("GET", path)
    for method, path in itertools.product((*malformed.METHODS, "POST"), (PREDICT, "/livez", "/v2/repository/index")):
        yield f"{method[:9]!r} {path}", request(method, path)
    for line in map(_latin, malformed.HEADERS):
        yield f"file with {line[:50]!r}", request("POST", PREDICT, npz_bytes(images=GALAXIES), line)
        yield f"GET with {line[:50]!r}", request("GET", "/model", b"", line)


def option_messages() -> Iterator[Message]:
    """Yield media types and query options of predictions."""
    file = npz_bytes(images=GALAXIES, ebv=EBV, object_id=NAMES)
    for accept, query in itertools.product(TYPES, ("", "?pdf=true")):
        yield f"as {accept}{query}", request("POST", PREDICT + query, file, f"Accept: {accept}")
    for query in (*malformed.QUERIES, "ebv=0.3", "ebv=-1", "ebv=99", "x=1", "pdf=1", "pdf=true&ebv=0.2"):
        yield f"file with {query}", request("POST", f"{PREDICT}?{query}", npy_bytes(GALAXIES))
    kinds = ("application/json", "text/plain", "application/x-npz", "application/fits", "a/b; c=d")
    for kind, path in itertools.product(kinds, (PREDICT, "/predict", EVALUATE, CUTOUTS, "/sky", INFER)):
        yield f"{kind} to {path}", request("POST", path, file, content_type=kind)


def file_messages() -> Iterator[Message]:
    """Yield `.npy` and `.npz` files for `/predict_file` and `/cutouts`, well-formed and not."""
    masked, whole = GALAXIES.copy(), npy_bytes(GALAXIES)
    masked[0, 3:9, :, 2], masked[1] = np.inf, np.nan
    arrays = {dtype: GALAXIES.astype(dtype) for dtype in ("f4", ">f8", "f2", "i2", ">i4", "u1", "i8", "f8")}
    arrays |= {"one": GALAXIES[0], "by columns": np.asfortranarray(GALAXIES), "masked": masked}
    arrays |= {f"pixels {value}": np.full_like(GALAXIES[:1], value) for value in malformed.PIXELS}
    arrays |= {f"shape {shape}": np.ones(shape, np.float32) for shape in malformed.SHAPES}
    arrays |= {f"dtype {dtype}": np.zeros((1, 64, 64, 5), dtype) for dtype in malformed.DTYPES}
    files = {what: npy_bytes(array) for what, array in arrays.items()} | {"cut": whole[:-1], "more": whole + b"x"}
    files["npz, packed"] = make_npz({}, zipfile.ZIP_DEFLATED, {"images": masked, "ebv": EBV})
    odd_names = (np.arange(3), np.array(["a"]), np.ones(3), *(np.array([name] * 3) for name in malformed.OBJECT_IDS))
    for names in (NAMES, *odd_names):
        files[f"names {names!r:.40}"] = npz_bytes(images=GALAXIES, object_id=names, z_spec=Z_SPEC, other=EBV)
    for ebv in (np.array([0.1, np.nan, 0.2]), np.float64(0.1), -EBV, EBV + 11, EBV[:2], *malformed.REDDENINGS):
        files[f"ebv {ebv!r:.40}"] = npz_bytes(images=GALAXIES, ebv=ebv)
    for name, content in {"images.npy": malformed.PICKLE, "../images.npy": whole, "images": whole}.items():
        files[f"npz with {name} of {len(content)}"] = make_npz({name: content})
    files["many members"] = make_npz({f"a{number}.npy": b"" for number in range(3000)})
    yield from _uploads(files | {"nothing": b"", "text": b"hello", "no images": npz_bytes(a=EBV)})


def described_file_messages() -> Iterator[Message]:
    """Yield FITS and HDF5 files, which the service decodes in a process of their own."""
    columns = COLUMNS | {"object_id": ["NGC 1", "b", "c"]}
    files = fits_files(GALAXIES, SDSS_IMAGES.bands, columns) | hdf5_files(GALAXIES, SDSS_IMAGES, COLUMNS)
    other_bands = fits_files(GALAXIES[..., ::-1], SDSS_IMAGES.bands[::-1], columns)["cube"]
    yield from _uploads(
        files | {"other bands": other_bands, "cut": files["cube"][:5000], "cut HDF5": files["ours"][:5000]}
    )


def _uploads(files: dict[str, bytes]) -> Iterator[Message]:
    for what, content in files.items():
        yield f"file: {what}", request("POST", f"{PREDICT}?pdf=true", content)
        yield f"cutouts of {what}", request("POST", CUTOUTS, content)


def evaluation_messages() -> Iterator[Message]:
    """Yield labelled galaxies for scores, reports and plots, as files and as JSON."""
    three = PDFS[:3]
    sources: list[dict[str, Any]] = [{}, {"images": GALAXIES, **COLUMNS}, {"images": GALAXIES, "pdfs": three}]
    sources += [{"images": GALAXIES, "magnitudes": np.full((3, 5), 17.0)}]
    sources += [{"images": GALAXIES, "z_spec": z_spec} for z_spec in ([np.nan, 0.1, 5.0], Z_SPEC - 1, Z_SPEC * np.nan)]
    sources += [{"pdfs": pdfs} for pdfs in (three[:, :9], -three, three * np.nan, three * 0, np.array("x"))]
    for number, arrays in enumerate(sources):
        for accept in (JSON, "text/html"):
            content = npz_bytes(**{"z_spec": Z_SPEC} | arrays)
            yield f"evaluate {number} as {accept}", request("POST", EVALUATE, content, f"Accept: {accept}")
    some = {"z_spec": [0.1, None, 0.3], "pdfs": three.tolist(), "object_id": ["a", "b", "c"]}
    for change in ({}, {"magnitudes": [17, None, 18]}, {"z_spec": ["x"]}, {"x": 1}):
        content = json.dumps(some | change).encode()
        yield f"evaluate JSON with {change}", request("POST", EVALUATE, content, content_type=JSON)
    for plot, kind in itertools.product(PLOTS, ("image/png", "image/svg+xml", "text/csv")):
        yield f"{plot} as {kind}", request("POST", f"{EVALUATE}?plot={plot}", EVALUATED, f"Accept: {kind}")
    for query in (*malformed.EVALUATIONS, "plot=pdfs&num_images=2&seed=5", "seed=1", "x=1", "plot=pit&plot=qq"):
        yield f"evaluate with {query}", request("POST", f"{EVALUATE}?{query}", EVALUATED)


def json_messages() -> Iterator[Message]:
    """Yield JSON for `/predict`, `/evaluate` and `/sky`."""
    image = np.round(GALAXIES[:1], 3).tolist()
    changes: list[dict[str, Any]] = [{}, {"pdf": True}, {"images": image[0]}, {"z": 1}, {"pdf": "yes"}]
    changes += [{"ebv": ebv} for ebv in (0.1, [0.1], [None], -1, [1, 2], "x")]
    changes += [{"object_id": names} for names in (["é"], [7], [None], "a", [], ["x" * 300])]
    changes += [{"images": odd} for odd in (*malformed.ODD_VALUES, [[[[None] * 5] * 64] * 64])]
    bodies = [json.dumps({"images": image} | change).encode() for change in changes]
    bodies += [b"", b"{", b"[]", b"null", b"\xff", b'{"images": [[[[NaN]]]]}', b"[" * 99_999, b'{"a": 1, "a": 2}']
    bodies += [b'{"images": ' + b"[" * 300, b'{"ra": 1, "dec": 2}', b'{"ra": 999, "dec": 2}']
    for (number, body), path in itertools.product(enumerate(bodies), ("/predict", EVALUATE, "/sky")):
        yield f"JSON {number} to {path}", request("POST", path, body, content_type=JSON)


def inference_messages() -> Iterator[Message]:
    """Yield requests of the Open Inference Protocol."""
    images, ebv = Tensor.of("images", GALAXIES), Tensor.of("ebv", EBV)
    named = [images, ebv, Tensor.of("object_id", NAMES)]
    outputs = ([], ["pdf"], ["z_mean", "flags", "object_id"], ["ood_score", "z_lo68"], ["nothing"], ["pdf", "pdf"])
    for names, binary in itertools.product(outputs, (True, False)):
        yield f"infer {names}, binary {binary}", _infer(named, names, binary=binary, request_id="7")
    others = [[Tensor("images", dtype, GALAXIES[:1])] for dtype in ("FP16", "FP64", "INT8", "UINT8", "INT64", "UINT64")]
    for inputs in (*others, [ebv], [images, images], [images, Tensor.of("x", EBV)], []):
        yield f"infer {[(tensor.name, tensor.datatype) for tensor in inputs]}", _infer(inputs, ["z_mean"])
    message = encode_request(named, ["pdf", "z_mean"])
    body, line = bytes(message.body), f"{HEADER_LENGTH}: {message.header_length}"
    for coding, packed in (("gzip", gzip.compress(body, 1, mtime=0)), ("deflate", zlib.compress(body)), ("br", body)):
        for content in (packed, packed[:5000]):
            lines = (line, f"Content-Encoding: {coding}", f"Accept-Encoding: {coding}")
            yield f"infer {coding} of {len(content)}", request("POST", INFER, content, *lines)
    for path in ("/v2/models/other/infer", "/v2/models/photoz/versions/9/infer", INFER + "/", INFER + "?pdf=true"):
        yield f"infer at {path}", request("POST", path, body, line)
    for length in ("-1", "0", "5", "10000000", "abc", ""):
        yield f"infer, JSON of {length}", request("POST", INFER, body, f"{HEADER_LENGTH}: {length}")


def broken_messages() -> Iterator[Message]:
    """Yield messages that break the rules of HTTP, or nearly do; some get no answer."""
    return ((f"broken {content[:80]!r}", content) for content, *_ in CASES)


GROUPS = {
    **{"HTTP": http_messages, "options": option_messages, "files": file_messages, "JSON": json_messages},
    **{"described files": described_file_messages, "evaluations": evaluation_messages},
    **{"inference": inference_messages, "broken": broken_messages},
}


@cache
def group(name: str) -> tuple[Message, ...]:
    """Return the messages of a group."""
    return tuple(GROUPS[name]())


def _infer(inputs: list[Tensor], outputs: list[str], **options: Any) -> bytes:
    message = encode_request(inputs, outputs, **options)
    lines = [f"{HEADER_LENGTH}: {message.header_length}"] if message.header_length else []
    return request("POST", INFER, bytes(message.body), *lines)


def _latin(text: str) -> str:
    """Spell text so that it is sent as UTF-8."""
    return text.encode().decode("latin-1")
