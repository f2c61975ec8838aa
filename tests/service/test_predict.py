"""`/predict` and `/predict_file`: formats and estimates; the errors of all endpoints; and what the documents say."""

import csv
import io
import json
import re
import sys

import h5py
import numpy as np
import pytest
from astropy.table import Table

from photoz import __version__, estimates
from photoz.estimates import COLUMNS
from photoz.flags import Flag
from photoz.inference.predictor import Predictor
from photoz.io import formats, npz
from photoz.io.tables import result_table
from photoz.metrics import METRICS
from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz.protocol import contract
from service import openapi
from service.errors import RequestError
from service.formats.estimates import encode_estimates
from service.formats.negotiation import OCTETS
from service.predict import cutouts as convert
from service.predict import predict_file
from service.request import MemoryBudget
from service.settings import Settings
from tests.running import ROOT
from tests.service.helpers import check_error
from tests.service.requests import local_worker
from tests.toys import GRIZ, galaxies, npy_bytes, toy_batch

EBV = 0.03
FORM = "application/x-www-form-urlencoded"  # what curl sends by default


def test_estimates_are_those_of_the_model_in_this_process(client, bundle_path, card, images):
    expected = Predictor.load(ModelBundle.load(bundle_path)).predict(toy_batch(images, card, np.array(EBV)))
    response = client.post("/predict", json={"images": images.tolist(), "ebv": EBV, "pdf": True})
    answer = contract.PredictResponse.model_validate_json(response.content)
    assert response.headers["content-type"] == "application/json"
    assert response.headers[contract.MODEL_HEADER] == answer.model == f"{card.name} {card.version}"
    assert answer.object_id == [str(i) for i in range(len(images))]
    assert (answer.z_edges, answer.ra) == (card.grid.edges.tolist(), None)
    record = {"input": "HTTP request", "software": f"photoz {__version__}"}
    assert answer.provenance.model_dump(exclude_unset=True) == record
    for name in {*COLUMNS, "pdf"} - {"object_id"}:
        np.testing.assert_allclose(getattr(answer, name), getattr(expected, name), atol=1e-6)
    response = client.get("/model")
    assert Card.model_validate_json(response.content) == card
    assert response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"


def columns_of(response):
    """Return the answer in JSON without its provenance: files say less about their images than JSON."""
    return {name: values for name, values in response.json().items() if name != "provenance"}


def test_files_of_any_declared_type_give_the_estimates_of_json(client, post_npz, images):
    answer = columns_of(client.post("/predict", json={"images": images.tolist(), "ebv": EBV}))
    with_ebv = npz.npz_bytes({"images": images, "ebv": np.full(len(images), EBV)})
    for media_type in (OCTETS, formats.NPY.media_type, formats.NPZ.media_type, "Application/X-NPY; v=1", FORM):
        for ebv, content in ((EBV, npy_bytes(images)), (1.0, with_ebv)):
            response = client.post(f"/predict_file?ebv={ebv}", content=content, headers={"content-type": media_type})
            assert columns_of(response) == answer
    names = np.arange(len(images)).astype("U300")  # wider than names may be, but not used
    arrays = {"images": images, "object_id": names, "split": np.array("test")}
    assert post_npz("/predict_file", arrays).json() == post_npz("/predict_file", {"images": images}).json()
    answer = client.post("/predict", json={"images": images[:2].tolist(), "object_id": [17, 2**60]})
    assert answer.json()["object_id"] == ["17", str(2**60)]


def test_estimates_in_each_format(post_npz, card, images):
    arrays = {"images": images, "object_id": np.array([f'galaxy, "{i}"' for i in range(len(images))])}

    def post(format, query="?pdf=true", accept=None):
        response = post_npz(f"/predict_file{query}", arrays, accept=accept or format.media_type)
        assert response.headers["content-type"].partition(";")[0] == format.media_type
        return response.content

    expected, label = json.loads(post(formats.JSON)), f"{card.name} {card.version}"
    assert expected.pop("model") == label
    assert expected["object_id"] == arrays["object_id"].tolist()
    columns = npz.read_arrays(io.BytesIO(post(formats.NPZ)))
    source = expected.pop("provenance")
    assert source["assumed"][0] == "the bands are u,g,r,i,z in this order"
    assert {name: columns.pop(name).tolist() for name in source} == source
    assert columns.pop("model").item() == label
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", columns.pop("date").item())
    assert set(expected) == set(columns) == {*COLUMNS, "pdf", "z_edges"}
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values, name)
    starts = {formats.FITS: b"SIMPLE  =", formats.VOTABLE: b"<?xml", formats.HDF5: b"\x89HDF", formats.PARQUET: b"PAR1"}
    for format, start in starts.items():
        assert post(format).startswith(start)
        assert label.encode() in post(format)
    header, *rows = csv.reader(io.StringIO(post(formats.CSV).decode()))
    assert header == [*COLUMNS, *(f"pdf_{i}" for i in range(card.grid.n_bins))]
    assert [row[0] for row in rows] == expected["object_id"]
    assert [json.loads(line)["z_mean"] for line in post(formats.JSON_LINES).splitlines()] == expected["z_mean"]
    with h5py.File(io.BytesIO(post(formats.QP, ""))) as file:  # always with PDFs
        np.testing.assert_allclose(file["data/pdfs"][:] * card.grid.width, expected["pdf"], atol=1e-9)
    post(formats.JSON, accept="*/*")
    post(formats.CSV, accept="text/*")
    post(formats.NPZ, accept="text/csv;q=0.5, application/x-npz")
    post(formats.CSV, accept="application/json;q=0, */*;q=0.1")
    post(formats.JSON, accept="text/csv;q=x, application/json;q=0.1")


def test_positions_redshifts_and_integer_names_of_a_file_come_back(post_npz, images, tmp_path):
    n, ids = len(images), 1237648720693755918 + np.arange(len(images))
    z_spec = np.where(np.arange(n) == 1, np.nan, 0.1)
    arrays = {"images": images, "object_id": ids, "ra": np.arange(n), "dec": np.zeros((n, 2)), "z_spec": z_spec}

    def post(format):
        return post_npz("/predict_file", arrays, accept=format.media_type).content

    answer = json.loads(post(formats.JSON))
    assert (answer["object_id"], answer["ra"]) == (ids.astype(str).tolist(), list(range(n)))
    assert (answer["z_spec"][:3], "dec" in answer) == ([0.1, None, 0.1], False)
    assert answer["provenance"]["left_out"] == [f"dec, expected {n} numbers, got shape ({n}, 2) and dtype float64"]
    header, row, *_ = csv.reader(io.StringIO(post(formats.CSV).decode()))
    assert (header[:4], row[:3]) == (["object_id", "ra", "z_spec", "z_mean"], [str(ids[0]), "0.0", "0.1"])
    assert [json.loads(line)["z_spec"] for line in post(formats.JSON_LINES).splitlines()] == answer["z_spec"]
    for format in (formats.FITS, formats.VOTABLE, formats.HDF5, formats.PARQUET):
        path = tmp_path / f"z{format.suffixes[0]}"
        path.write_bytes(post(format))
        if format is formats.HDF5:
            with h5py.File(path) as file:
                columns = {name: file[name][:] for name in ("object_id", "z_spec")}
        else:
            columns = Table.read(path)
        np.testing.assert_array_equal(np.asarray(columns["object_id"]), ids)
        np.testing.assert_array_equal(np.ma.filled(columns["z_spec"], np.nan), z_spec)


def test_missing_package_for_an_answer_is_named(monkeypatch, card):
    table = result_table(estimates.from_pdfs(np.full((2, card.grid.n_bins), 1 / card.grid.n_bins), card.grid))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"cannot answer as .*parquet here: the service lacks pyarrow") as refused:
        encode_estimates(table, formats.PARQUET.media_type)
    assert refused.value.status == 406


def test_memory_of_an_answer_is_reserved(small_bundle):
    cutouts, n = galaxies(GRIZ, 3), {formats.JSON: 60, formats.CSV: 60, formats.FITS: 24, formats.NPZ: 8}
    with local_worker(bundle=small_bundle.path) as post:
        for format, n_bytes in n.items():
            options = {"memory": MemoryBudget(2**30), "accept": format.media_type}
            assert post(predict_file, npy_bytes(cutouts), "/predict_file?pdf=true", **options).status_code == 200
            assert options["memory"].used_bytes == n_bytes * 3 * 90
        assert post(convert, npy_bytes(cutouts), memory=(memory := MemoryBudget(2**30))).status_code == 200
        assert memory.used_bytes == 2 * cutouts.nbytes


def test_one_cutout_needs_no_first_axis_and_may_have_masked_pixels(client, card, post_npy, images):
    answer = columns_of(post_npy("/predict_file", images[:1]))
    assert answer["object_id"] == ["0"]
    assert columns_of(post_npy("/predict_file", images[0])) == answer
    content = json.dumps({"images": images[0].tolist()})
    assert columns_of(client.post("/predict", content=content, headers={"content-type": FORM})) == answer
    spoilt = images[:3].copy()
    spoilt[2, :, :, 0] = 0.0
    pixels = spoilt.tolist()
    pixels[1][0][0][0] = None
    flags = client.post("/predict", json={"images": pixels, "ebv": [0.02, None, 0.02]}).json()["flags"]
    assert [bool(flag & Flag.MASKED_PIXELS) for flag in flags] == [False, True, False]
    assert [bool(flag & Flag.EBV_ASSUMED) for flag in flags] == [False, card.inputs.ebv, False]
    assert [bool(flag & Flag.BAND_MISSING) for flag in flags] == [False, False, True]


def test_unusable_arrays_and_json(client, post_npz, card, images):
    n, one = len(images), {"images": [[[[1]]]]}
    for change, words in (
        ({"images": images[:, 1:]}, "expected cutouts of at least 64x64 pixels, got 63x64"),
        ({"images": images[..., 1:]}, "expected 5 bands as the second or the last axis of images"),
        ({"images": images[:0]}, "at least one cutout"),
        ({"images": np.full_like(images, np.nan)}, "cutout 0 has no finite pixel"),
        ({"images": np.zeros(images.shape, "U5")}, "real numbers"),
        ({"images": np.full_like(images, 3e38)}, "overflow the network"),
        ({"ebv": np.full(n, -0.1)}, "0 <= ebv <= 10"),
        ({"ebv": np.zeros(n + 1)}, "or as 6, one for each cutout"),
        ({"ebv": np.full(n, "0.1")}, "ebv as real numbers"),
        ({"images": None, "cutouts": images}, "expected an array 'images', got cutouts"),
        ({"object_id": np.array(["a"])}, "6 names"),
        ({"object_id": np.array(["a\0b", *"cdefg"])}, "expected object_id as text, got a NUL character"),
    ):
        arrays = {name: array for name, array in ({"images": images} | change).items() if array is not None}
        refused = post_npz("/predict_file", arrays)
        check_error(refused, 422, words)
        assert refused.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    for message, error in (
        ({"images": [[[["a"]]]]}, "images.0.0.0.0: input should be a valid number, got 'a'"),
        ({"images": [[[[1], [1, 2]]]]}, "regular array"),
        ({}, "images: field required"),
        (one | {"image": 1}, "image: extra inputs are not permitted; expected images, ebv, object_id, pdf"),
        (one | {"ebv": "0.1"}, "got '0.1' (and 1 more such error)"),
        (one | {"object_id": ["a" * 257]}, "object_id.0: string should have at most 256 characters"),
        (one | {"object_id": ["a\0"]}, "expected object_id as text, got a NUL character"),
        ([], "expected a JSON object, got a list"),
    ):
        check_error(client.post("/predict", json=message), 422, error)


NPZ, PNG, SVG, HTML, CSV = (f.media_type for f in (formats.NPZ, formats.PNG, formats.SVG, formats.HTML, formats.CSV))


def test_damaged_bodies_and_refused_requests(client, images):
    expected, whole = "expected a .npy, .npz, FITS or HDF5 file, got", npy_bytes(images)
    archive, no_coding = (
        npz.npz_bytes({"images": images}),
        "cannot read Content-Encoding gzip here: expected the body as",
    )
    for content, words in (
        (b"GIF89a", f"{expected} 6 bytes that start with b'GIF89a'"),
        (b"", f"{expected} 0 bytes"),
        *((whole[:4], expected), (whole[: len(whole) // 2], "not a readable .npy file")),
        *((archive[:4], ".npz"), (archive[: len(archive) // 2], "not a readable .npz file")),
    ):
        check_error(client.post("/predict_file", content=content), 400, words)
    check_error(client.post("/predict", content=b"{"), 400, "the body is not JSON: ")
    for path, headers, status, words in (
        ("/predict", {"content-type": "text/plain"}, 415, "expected application/json (/predict_file reads files)"),
        ("/predict_file", {"content-type": "application/json"}, 415, "cannot read application/json: expected appl"),
        ("/evaluate", {"content-type": CSV}, 415, NPZ),
        ("/predict", {"content-type": f"application/vnd.bentoml{80 * '+'}"}, 415, f"bentoml{37 * '+'} is not allowed"),
        *((path, {"content-encoding": "gzip"}, 415, no_coding) for path in ("/predict", "/cutouts", "/evaluate")),
        ("/predict_file", {"accept": PNG}, 406, "cannot answer as image/png: expected any of application/json, "),
        ("/evaluate", {"accept": CSV}, 406, HTML),
        ("/evaluate?plot=pit", {"accept": HTML}, 406, SVG),
        ("/predict_file?pdfs=", {}, 422, "there is no option ?pdfs; expected any of pdf, ebv"),
        ("/predict_file?pdf=perhaps", {}, 422, "pdf: input should be a valid boolean, unable to interpret input, got"),
        ("/predict?pdf=true", {}, 422, "expected no options, got ?pdf"),
        ("/evaluate?plot=sculpture", {}, 422, "plot: input should be 'scatter', "),
    ):
        check_error(client.post(path, content=b"x", headers=headers), status, words)


DOCUMENT = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("http-api.md", "estimates.md"))
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
STATUSES = {
    *["400", "401", "403", "404", "406", "408", "413", "415", "421", "422", "429", "431", "500", "502", "503", "504"]
}


def test_flags_columns_metrics_options_and_statuses_are_documented():
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", DOCUMENT, re.MULTILINE)
    assert {name: int(bit) for bit, name in rows} == {flag.name: flag.value for flag in Flag}
    for name in (*COLUMNS, "pdf", *METRICS, *contract.EvaluateRequest.model_fields):
        assert f"`{name}`" in DOCUMENT, name
    for option in (*contract.PredictOptions.model_fields, *contract.EvaluateOptions.model_fields):
        assert re.search(rf"`{option}[=`]", DOCUMENT), option
    rows = re.findall(r"^\| ([\d, ]+) \|", DOCUMENT, re.MULTILINE)
    operations = [operation for path in openapi.document()["paths"].values() for operation in path.values()]
    assert {status for operation in operations for status in operation["responses"]} == {"200"} | STATUSES
    assert STATUSES | {"405"} <= set(", ".join(rows).split(", "))


def test_settings_are_documented_with_their_defaults():
    rows = dict(re.findall(r"^\| `(PHOTOZ_[A-Z_]+)` \| (.*?) \|", OPERATIONS, re.MULTILINE))
    fields = Settings.model_fields
    assert set(rows) == {f"PHOTOZ_{name.upper()}" for name in fields}
    defaults = {name: field.default for name, field in fields.items() if type(field.default) in (bool, float, int, str)}
    assert defaults.pop("trusted_proxies") == defaults.pop("allowed_hosts") == ""  # empty cells
    for name, default in defaults.items():
        text = ("off", "on")[default] if isinstance(default, bool) else str(default).removesuffix(".0")
        assert rows[f"PHOTOZ_{name.upper()}"] == f"`{text}`"
