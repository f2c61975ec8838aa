"""The messages that `benchmarks.replay` sends: all endpoints, formats, options and errors."""

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from astropy.io import fits
from astropy.table import Table

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import request, request_head
from benchmarks.resilience import malformed_inputs as malformed
from benchmarks.resilience.attacks import Material
from benchmarks.resilience.attacks_bodies import ON_BODIES
from photoz.protocol.open_inference import HEADER_LENGTH, encode_request
from photoz.protocol.tensors import Tensor

KEY = "key-of-the-replay"
INFER = "/v2/models/photoz/infer"
GALAXIES, EBV = cutouts(3)
NAMES, Z_SPEC = np.array(["NGC 1", "é", "=1"]), np.array([0.1, 0.2, 0.3])
DTYPES = ("f4", ">f8", "f2", "i2", ">i4", "u1", "i8", "f8")
ACCEPTED = ("application/json", "text/csv", "application/x-npz", "application/jsonl", "application/fits") + (
    *("application/x-votable+xml", "application/x-hdf5", "application/x-qp+hdf5", "application/vnd.apache.parquet"),
    *("text/*", "image/png", "text/csv;q=0.1, application/x-npz;q=0.2", "*/*;q=0", "", "application/json;q=abc"),
)
PLOTS = ("scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked")
PREDICT, CUTOUTS, EVALUATE, JSON = "/predict_file", "/cutouts", "/evaluate", "application/json"

Message = tuple[str, bytes]


def messages(checkout: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield all messages: the service they go to, what they are, and their bytes."""
    general = (*http_messages(checkout), *option_messages(), *attack_messages())
    bodies = (*file_messages(), *evaluation_messages(), *json_messages(), *inference_messages())
    for what, content in (*general, *bodies):
        yield "usual", what, content
    for what, content in bodies:
        if not what.startswith("cutouts"):
            yield "small", what, content
    for what, content in broken_messages():
        yield "broken", what, content
    for size in (800, 1100, 40_000):
        yield "small", f"head of {size}", request("GET", "/livez", b"", "X-Long: " + "v" * size)
    for path in ("/", "/ui", "/ui/main.js", "/ui/options.json", "/livez", "/metrics", "/model", "/docs.json", "/no"):
        for value in (f"Bearer {KEY}", f"bearer  {KEY} ", "Bearer wrong", "Basic eA==", ""):
            lines = [f"Authorization: {value}"] if value else []
            yield "keys", f"{path} by {value!r}", request("GET", path, b"", *lines)
            yield "keys", f"POST {path} by {value!r}", request("POST", PREDICT, npy(GALAXIES[:1]), *lines)
    for plot in ("", *(f"?plot={plot}" for plot in PLOTS)):
        yield "hurried", f"evaluate{plot}", request("POST", EVALUATE + plot, EVALUATED)
    for path in ("/livez", "/readyz", "/metrics", "/model"):
        yield "busy", path, request("GET", path)
    yield "busy", "file", request("POST", PREDICT, npz(images=GALAXIES))


def http_messages(checkout: Path) -> Iterator[Message]:
    """Yield GET, other methods, and odd headers."""
    ui = [f"/ui/{path.name}" for path in sorted((checkout / "service" / "ui").iterdir())]
    paths = ["/", "/ui", *ui, "/ui/sample.npz", "/ui/options.json", "/docs", "/docs.json", "/model", "/metrics"]
    paths += [
        "/livez",
        "/readyz",
        "/healthz",
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/photoz",
    ]
    paths += ["/v2/models/photoz/ready", "/v2/models/other", "/v2/models/photoz/versions/9", "/v2/models/photoz/"]
    for path in (*paths, *malformed.PATHS, "/predict", "/sky", INFER, "/v2/models/other/ready"):
        yield f"GET {path[:60]}", request("GET", _latin(path))
    for method, path in itertools.product((*malformed.METHODS, "POST"), (PREDICT, "/livez", "/v2/repository/index")):
        yield f"{method[:9]!r} {path}", request(method, path)
    for line in malformed.HEADERS:
        yield f"file with {line[:50]!r}", request("POST", PREDICT, npz(images=GALAXIES), _latin(line))
        yield f"GET with {line[:50]!r}", request("GET", "/model", b"", _latin(line))


def option_messages() -> Iterator[Message]:
    """Yield what headers and query options ask for."""
    file = npz(images=GALAXIES, ebv=EBV, object_id=NAMES)
    for accept, query in itertools.product(ACCEPTED, ("", "?pdf=true")):
        yield f"as {accept}{query}", request("POST", PREDICT + query, file, f"Accept: {accept}")
    for query in (*malformed.QUERIES, "ebv=0.3", "ebv=-1", "ebv=99", "x=1", "pdf=1", "pdf=true&ebv=0.2"):
        yield f"file with {query}", request("POST", f"{PREDICT}?{query}", npy(GALAXIES))
    for kind in ("application/json", "text/plain", "application/x-npz", "application/fits", "a/b; c=d"):
        for path in (PREDICT, "/predict", EVALUATE, CUTOUTS, "/sky", INFER):
            yield f"{kind} to {path}", request("POST", path, file, content_type=kind)
    for plot, media_type in itertools.product(PLOTS, ("image/png", "image/svg+xml")):
        whole = request("POST", f"{EVALUATE}?plot={plot}", EVALUATED, f"Accept: {media_type}")
        yield f"{plot} as {media_type}", whole
    for query in (*malformed.EVALUATIONS, "plot=pdfs&num_images=2&seed=5", "seed=1", "x=1", "plot=pit&plot=qq"):
        yield f"evaluate with {query}", request("POST", f"{EVALUATE}?{query}", EVALUATED)
    for accept in ("application/json", "text/html", "image/png", "text/csv"):
        yield f"evaluate as {accept}", request("POST", EVALUATE, EVALUATED, f"Accept: {accept}")


def file_messages() -> Iterator[Message]:
    """Yield files for `/predict_file` and `/cutouts`, well-formed and not."""
    masked, empty = GALAXIES.copy(), GALAXIES.copy()
    masked[0, 3:9, :, 2], masked[1, 0, 0], empty[1] = np.nan, np.inf, np.nan
    files = {f"npy {dtype}": npy(GALAXIES.astype(dtype)) for dtype in DTYPES}
    files |= {f"npz {dtype}": npz(images=GALAXIES.astype(dtype), ebv=EBV.astype(dtype)) for dtype in DTYPES}
    files |= {"npy one": npy(GALAXIES[0]), "npy fortran": npy(np.asfortranarray(GALAXIES)), "npy masked": npy(masked)}
    files |= {"npy empty cutout": npy(empty), "npz deflated": npz(images=masked, ebv=EBV, packed=True)}
    for name in (NAMES, np.arange(3), np.array(["a"] * 3), np.array(["x" * 257] * 3), np.array(["a"]), np.ones(3)):
        files[f"npz names {name!r:.40}"] = npz(images=GALAXIES, object_id=name, z_spec=Z_SPEC, other=EBV)
    for ebv in (np.array([0.1, np.nan, 0.2]), np.float64(0.1), -EBV, EBV + 11, EBV[:2], NAMES, np.ones((3, 1))):
        files[f"npz ebv {ebv!r:.40}"] = npz(images=GALAXIES, ebv=ebv)
    for shape in malformed.SHAPES:
        files[f"npy shape {shape}"] = npy(np.ones(shape, np.float32))
    for dtype in malformed.DTYPES:
        files[f"npy dtype {dtype}"] = npy(np.zeros((1, 64, 64, 5), dtype))
    whole = npy(GALAXIES)
    files |= {
        "nothing": b"",
        "text": b"hello",
        "npy cut": whole[:-1],
        "npy with more": whole + b"x",
        "npz no images": npz(a=EBV),
    }
    files |= _described_files()
    for what, content in files.items():
        yield f"file {what}", request("POST", f"{PREDICT}?pdf=true", content)
        yield f"cutouts of {what}", request("POST", CUTOUTS, content)


def _described_files() -> dict[str, bytes]:
    """Make FITS and HDF5 files."""
    first = np.moveaxis(GALAXIES, -1, 1)
    header = fits.Header(
        {
            "BANDS": "ugriz",
            "BUNIT": "nanomaggy",
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CDELT1": -1.1e-4,
            "CDELT2": 1.1e-4,
        }
    )
    table = Table({"IMAGE": first, "EBV": EBV, "OBJECT_ID": ["NGC 1", "b", "c"], "Z_SPEC": Z_SPEC})
    larger, primary = np.pad(first, ((0, 0), (0, 0), (8, 8), (8, 8))), fits.PrimaryHDU
    layouts = {
        "cube": [primary(first, header)],
        "cube without header": [primary(first)],
        "larger": [primary(larger, header)],
        "nJy": [primary(first, fits.Header({"BANDS": "ugriz", "BUNIT": "nJy"}))],
        "unknown unit": [primary(first, fits.Header({"BANDS": "ugriz", "BUNIT": "furlong"}))],
        "other bands": [primary(first[:, ::-1], fits.Header({"BANDS": "zirgu"}))],
        "missing band": [primary(first[:, :4], fits.Header({"BANDS": "ugri"}))],
        "table": [primary(), fits.table_to_hdu(table)],
        "each galaxy": [primary(), *(fits.ImageHDU(image, header, name=f"G{row}") for row, image in enumerate(first))],
        "each band": [
            primary(),
            *(fits.ImageHDU(image, name=band) for band, image in zip("ugriz", first[0], strict=True)),
        ],
        "no image": [primary()],
    }
    files = {f"FITS {name}": _written(fits.HDUList(hdus).writeto) for name, hdus in layouts.items()}
    columns = {"images": GALAXIES, "ebv": EBV, "z_spec": Z_SPEC, "object_id": NAMES.astype(object)}
    theirs = {"images": first, "e_bv": EBV, "specz_redshift": Z_SPEC}
    for name, datasets in (("ours", columns), ("bands first", theirs), ("without images", {"ebv": EBV})):
        files[f"HDF5 {name}"] = _written(lambda file, datasets=datasets: _write_hdf5(file, datasets))
    return files | {f"{name} cut": files[name][:5000] for name in ("FITS cube", "HDF5 ours")}


def _write_hdf5(buffer: io.BytesIO, datasets: dict[str, np.ndarray]) -> None:
    with h5py.File(buffer, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, dtype=h5py.string_dtype() if values.dtype == object else None)


def evaluation_messages() -> Iterator[Message]:
    """Yield labelled galaxies, as files and as JSON."""
    several = np.tile(PDFS, (4, 1))[:40]
    files = {
        "images": npz(images=GALAXIES, z_spec=Z_SPEC, ebv=EBV, object_id=NAMES),
        "unknown z_spec": npz(images=GALAXIES, z_spec=np.array([np.nan, 0.1, 5.0])),
        "magnitudes": npz(pdfs=several, z_spec=np.linspace(0.05, 0.35, 40), magnitudes=np.linspace(14, 18, 40)),
        "magnitudes of bands": npz(images=GALAXIES, z_spec=Z_SPEC, magnitudes=np.full((3, 5), 17.0)),
        "neither": npz(z_spec=Z_SPEC),
        "both": npz(z_spec=Z_SPEC, images=GALAXIES, pdfs=PDFS[:3]),
        "other bins": npz(z_spec=Z_SPEC, pdfs=PDFS[:3, :9]),
        "negative": npz(z_spec=Z_SPEC, pdfs=-PDFS[:3]),
        "none on the grid": npz(z_spec=Z_SPEC + 9, pdfs=PDFS[:3]),
        "npy": npy(PDFS),
    }
    for what, content in files.items():
        yield f"evaluate {what}", request("POST", EVALUATE, content)
        yield f"report of {what}", request("POST", EVALUATE, content, "Accept: text/html")
    some = {"z_spec": [0.1, None, 0.3], "pdfs": PDFS[:3].tolist(), "object_id": ["a", "b", "c"]}
    for what, change in {
        "": {},
        "magnitudes": {"magnitudes": [17, None, 18]},
        "text": {"z_spec": ["x"]},
        "more": {"x": 1},
    }.items():
        yield f"evaluate JSON {what}", request("POST", EVALUATE, json.dumps(some | change).encode(), content_type=JSON)


def json_messages() -> Iterator[Message]:
    """Yield JSON for `/predict` and `/sky`."""
    image = np.round(GALAXIES[:1], 3).tolist()
    changes: dict[str, dict[str, Any]] = {"images alone": {}, "pdf": {"pdf": True}, "one": {"images": image[0]}}
    changes |= {f"ebv {ebv}": {"ebv": ebv} for ebv in (0.1, [0.1], [None], -1, [1, 2], "x")}
    changes |= {f"names {names}": {"object_id": names} for names in (["é"], [7], [None], "a", [], ["x" * 300])}
    changes |= {f"images {odd!r:.30}": {"images": odd} for odd in malformed.ODD_VALUES if odd not in (0, 1)}
    changes |= {"other field": {"z": 1}, "pdf text": {"pdf": "yes"}, "masked": {"images": [[[[None] * 5] * 64] * 64]}}
    for what, change in changes.items():
        body = json.dumps({"images": image} | change).encode()
        yield f"JSON {what}", request("POST", "/predict", body, content_type=JSON)
    for accept in ACCEPTED[:10]:
        body = json.dumps({"images": image, "pdf": True}).encode()
        yield f"JSON as {accept}", request("POST", "/predict", body, f"Accept: {accept}", content_type=JSON)
    for body in (b"", b"{", b"[]", b"null", b"\xff", b'{"images": [[[[NaN]]]]}', b"[" * 99_999, b'{"a": 1, "a": 2}'):
        yield f"JSON {body[:20]!r}", request("POST", "/predict", body, content_type=JSON)
        yield f"evaluate JSON {body[:20]!r}", request("POST", EVALUATE, body, content_type=JSON)
    for body in (b'{"ra": 1, "dec": 2}', b'{"ra": 999, "dec": 2}', b"{}"):
        yield f"sky {body!r}", request("POST", "/sky", body, content_type=JSON)


def inference_messages() -> Iterator[Message]:
    """Yield requests of the Open Inference Protocol."""
    images, ebv = Tensor.of("images", GALAXIES), Tensor.of("ebv", EBV)
    named = [images, ebv, Tensor.of("object_id", NAMES)]
    for outputs in (
        [],
        ["pdf"],
        ["z_mean", "flags", "object_id"],
        ["ood_score", "z_lo68"],
        ["nothing"],
        ["pdf", "pdf"],
    ):
        for binary in (True, False):
            yield f"infer {outputs} {binary}", _infer(named, outputs, binary=binary, request_id="7")
    for dtype in ("FP16", "FP64", "INT8", "INT16", "UINT8", "INT64", "UINT64"):
        yield f"infer {dtype}", _infer([Tensor("images", dtype, GALAXIES[:1])], ["z_mean"])
    for inputs in (
        [ebv],
        [images, images],
        [images, Tensor.of("x", EBV)],
        [Tensor.of("images", GALAXIES[..., :4])],
        [],
    ):
        yield f"infer {[one.name for one in inputs]}", _infer(inputs, ["z_mean"])
    message = encode_request(named, ["pdf", "z_mean"])
    body, line = bytes(message.body), f"{HEADER_LENGTH}: {message.header_length}"
    for coding, packed in (("gzip", gzip.compress(body, 1, mtime=0)), ("deflate", zlib.compress(body)), ("br", body)):
        yield f"infer {coding}", request("POST", INFER, packed, line, f"Content-Encoding: {coding}")
        yield f"infer, answer in {coding}", request("POST", INFER, body, line, f"Accept-Encoding: {coding}")
        yield f"infer {coding} cut", request("POST", INFER, packed[:5000], line, f"Content-Encoding: {coding}")
    for path in ("/v2/models/other/infer", "/v2/models/photoz/versions/9/infer", INFER + "/", INFER + "?pdf=true"):
        yield f"infer at {path}", request("POST", path, body, line)
    for length in ("-1", "0", "5", "10000000", "abc", ""):
        yield f"infer, JSON of {length}", request("POST", INFER, body, f"{HEADER_LENGTH}: {length}")


def broken_messages() -> Iterator[Message]:
    """Yield messages that break the rules of HTTP."""
    for length in malformed.CONTENT_LENGTHS:
        yield f"length {length}", request_head("POST /predict_file", f"Content-Length: {length}") + b"12345"
    for coding in malformed.CODINGS:
        yield f"coding {coding}", request_head("POST /predict", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n"
    for chunks in malformed.CHUNKS:
        yield f"chunks {chunks[:30]!r}", request_head("POST /predict", "Transfer-Encoding: chunked") + chunks
    for content in malformed.NOT_HTTP:
        yield f"not HTTP {content[:30]!r}", content
    for version in malformed.VERSIONS:
        yield f"version {version!r}", request("GET", "/livez").replace(b"HTTP/1.1", version, 1)


def attack_messages() -> Iterator[Message]:
    """Yield bodies that mean nothing."""
    material = Material(INFER)
    for (_, make), seed in itertools.product(ON_BODIES, range(8)):
        attack = make(Random(seed), material)
        yield f"{attack.kind} {seed}", b"".join(attack.pieces)


def npy(array: np.ndarray) -> bytes:
    return _written(lambda file: np.lib.format.write_array(file, array))


def npz(*, packed: bool = False, **arrays: Any) -> bytes:
    return _written(lambda file: (np.savez_compressed if packed else np.savez)(file, **arrays))


def _written(write: Any) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _infer(inputs: list[Tensor], outputs: list[str], **options: Any) -> bytes:
    message = encode_request(inputs, outputs, **options)
    lines = [f"{HEADER_LENGTH}: {message.header_length}"] if message.header_length else []
    return request("POST", INFER, bytes(message.body), *lines)


def _latin(text: str) -> str:
    return text.encode().decode("latin-1")


# PDFs of ten galaxies: bumps of several widths.
PDFS = np.exp(-0.5 * ((np.linspace(0.0, 0.4, 180) - np.linspace(0.05, 0.3, 10)[:, None]) / 0.02) ** 2)
PDFS /= PDFS.sum(axis=1, keepdims=True)
EVALUATED = npz(pdfs=PDFS, z_spec=np.linspace(0.06, 0.31, 10))
REPORT = request("POST", EVALUATE, EVALUATED, "Accept: text/html")
