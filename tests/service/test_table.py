"""`/table`: estimates that were predicted before, in other formats."""

import io

import h5py
import httpx
import numpy as np
import pytest
from astropy.table import Table
from starlette.responses import Response

from photoz.errors import TooLarge
from photoz.io import formats
from service.shared import MAX_BYTES, MAX_TABLES, SECONDS, SharedTables
from tests.service.helpers import check_error

OTHERS = {
    "ebv": np.array([0.1, np.nan, 0.2], np.float16),
    "mag_r": np.array([17, 18, 19], np.uint8),
    "is_red": np.array([True, False, True]),
    "survey": np.array(["SDSS", "HSC", "ü"]),
    "big": np.array([2**63, 1, 2], np.uint64),
}


@pytest.fixture(scope="module")
def columns(post_npz, images):
    """Columns of three galaxies, as they are predicted."""
    ra, dec = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.0, 1.0])
    arrays = {"images": images[:3], "object_id": np.arange(3) + 10**18, "ra": ra, "dec": dec}
    answer = post_npz("/predict_file?pdf=true", arrays, accept=formats.NPZ.media_type)
    with np.load(io.BytesIO(answer.content)) as archive:
        names = [name for name in archive.files if archive[name].ndim and name not in ("z_edges", "assumed")]
        return {name: archive[name] for name in names} | {"images": images[:3]}


@pytest.mark.parametrize("format", [formats.FITS, formats.VOTABLE, formats.HDF5, formats.QP])
def test_tables_are_those_of_predict_file_with_other_columns(post_npz, columns, format):
    images, columns = columns["images"], {name: columns[name] for name in columns if name != "images"}
    arrays = {"images": images, **{name: columns[name] for name in ("object_id", "ra", "dec")}}
    expected = read(post_npz("/predict_file?pdf=true", arrays, accept=format.media_type), format)
    answer = post_npz("/table?input=a.npz&model=a%00b", columns | OTHERS, accept=format.media_type)
    assert answer.headers["content-type"].startswith(format.media_type)
    found = read(answer, format)
    assert found.keys() == expected.keys() | OTHERS.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_allclose(found[name], values, rtol=1e-12)
    assert found["object_id"].tolist() == [10**18, 10**18 + 1, 10**18 + 2]
    assert found["mag_r"].tolist() == [17, 18, 19]
    np.testing.assert_allclose(found["ebv"].astype(float), OTHERS["ebv"])
    if format in (formats.FITS, formats.VOTABLE):
        table = Table.read(io.BytesIO(answer.content), format=format.name.lower())
        assert str(table["ra"].unit) == "deg"
        assert table["is_red"].dtype == bool
        assert table["big"].astype(str).tolist() == [str(2**63), "1", "2"]


def read(answer: httpx.Response, format: formats.Format) -> dict[str, np.ndarray]:
    """Return the columns of an answer."""
    assert answer.status_code == 200, answer.text
    content = io.BytesIO(answer.content)
    if format in (formats.HDF5, formats.QP):
        with h5py.File(content) as file:
            group = {**file["ancil"], "pdf": file["data/pdfs"]} if format is formats.QP else file
            return {name: group[name][()] for name in group if name != "z_edges"}
    table = Table.read(content, format=format.name.lower())
    return {
        name: np.ma.filled(table[name], *([np.nan] if table[name].dtype.kind == "f" else [])) for name in table.colnames
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"object_id": None}, "expected an array object_id, got "),
        ({"ra": np.zeros(2)}, "expected ra of shape (3,), numbers or text, got shape (2,) and dtype float64"),
        ({"ra": np.zeros(3, complex)}, "got shape (3,) and dtype complex128"),
        ({"a b": np.zeros(3)}, "expected names of letters, digits and _, and not z_edges, got 'a b'"),
        ({"z_edges": np.zeros(3)}, "and not z_edges, got 'z_edges'"),
        ({"RA": np.zeros(3)}, "expected names that differ in more than case"),
        ({"pdf": np.zeros((3, 7))}, "got shape (3, 7)"),
        ({"survey": np.array(["a" * 300] * 3)}, "expected survey of at most 256 characters, got one of 300"),
    ],
)
def test_unusable_columns_are_refused(post_npz, changes, words):
    arrays = {"object_id": np.arange(3), "ra": np.zeros(3)} | changes
    arrays = {name: values for name, values in arrays.items() if values is not None}
    check_error(post_npz("/table", arrays), 422, words)


@pytest.mark.parametrize("object_id", [np.zeros(0, np.int64), np.zeros(0, "U5"), np.zeros(0, "S5")])
def test_a_table_may_have_no_rows(post_npz, object_id):
    answer = post_npz("/table", {"object_id": object_id, "z_mean": np.zeros(0)}, accept="text/csv")
    assert (answer.status_code, answer.text.split()) == (200, ["object_id,z_mean"])


def test_a_table_is_no_json(post_npz):
    check_error(post_npz("/table", {"object_id": np.arange(3)}, accept="application/json"), 406, "cannot answer as")


def test_shared_tables_are_found_by_anyone_who_knows_their_path(post_npz, client):
    columns = {"object_id": np.arange(3), "z_mean": np.array([0.1, 0.2, 0.3])}
    path = post_npz("/table?share=true", columns, accept="text/csv").json()["path"]
    assert len(path) > len("table/") + 20
    for _ in range(2):
        answer = client.get(f"/{path}")
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.text.splitlines()[:2] == ["object_id,z_mean", "0,0.1"]
    check_error(client.get("/table/none"), 404, "there is no such table here, or no longer")


def test_shared_tables_expire_and_make_room(monkeypatch):
    clock, tables = [0.0], SharedTables()
    monkeypatch.setattr("service.shared.time.monotonic", lambda: clock[0])
    half = Response(bytes(MAX_BYTES // 2))
    paths = [tables.add(half) for _ in range(3)]
    assert [tables.get(path) for path in paths] == [None, half, half]
    with pytest.raises(TooLarge, match="expected a table of at most 8,388,608 bytes to share, got 8,388,609"):
        tables.add(Response(bytes(MAX_BYTES + 1)))
    paths = [tables.add(Response(b"")) for _ in range(MAX_TABLES + 1)]
    assert [tables.get(path) is not None for path in paths] == [False] + [True] * MAX_TABLES
    clock[0] = SECONDS + 1
    assert tables.get(paths[1]) is None
