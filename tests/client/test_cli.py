"""The command `photoz`, on the real service or on servers that fail."""

import csv
import io
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from photoz import __version__
from photoz.protocol.contract import PredictResponse
from photoz_client import Card, PhotozClient
from tests.client.answers import error, first_row, numbered_cutouts, prediction
from tests.client.both_clients import ROWS
from tests.client.misbehaving_server import serve


@pytest.fixture
def at(photoz, service_url, monkeypatch):
    """Run the command against the real service."""
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    return photoz


@pytest.fixture(scope="module")
def columns(service_url):
    with PhotozClient(service_url) as client:
        image = client.model().image
    rng = np.random.default_rng(2)
    return {
        "images": rng.normal(0.1, 0.05, (6, *image.shape)).astype(np.float32),
        "ebv": np.full(6, 0.03),
        "z_spec": np.linspace(0.05, 0.35, 6),
        "object_id": np.array([f"galaxy-{i}" for i in range(6)]),
        "split": np.array(["train", "test"] * 3),
    }


@pytest.fixture
def npz(columns, tmp_path):
    np.savez(tmp_path / "cutouts.npz", **columns)
    return tmp_path / "cutouts.npz"


@pytest.fixture
def h5(columns, tmp_path):
    with h5py.File(tmp_path / "cutouts.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values.astype(object) if values.dtype.kind == "U" else values
    return tmp_path / "cutouts.h5"


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "cutouts.npy", np.ones((1, 8, 8, 2)))
    return tmp_path / "cutouts.npy"


@pytest.mark.e2e
def test_predict_prints_one_line_per_galaxy(at, npz):
    status, out, _ = at("predict", npz)
    head, *lines = out.splitlines()
    assert status == 0
    assert head.split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert [line.split()[0] for line in lines] == [f"galaxy-{i}" for i in range(6)]


@pytest.mark.e2e
def test_predict_writes_what_the_sdk_returns(at, npz, columns, service_url, tmp_path):
    with PhotozClient(service_url) as client:
        expected = client.predict(columns["images"], ebv=columns["ebv"], object_id=columns["object_id"], pdf=True)
    for suffix in ("csv", "npz", "json"):
        status, out, err = at("predict", npz, "--pdf", "-o", tmp_path / f"out.{suffix}")
        assert (status, out) == (0, "")
        assert "6 rows" in err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [float(row["z_mean"]) for row in rows] == expected.z_mean.tolist()
    assert [float(row["pdf_7"]) for row in rows] == expected.pdf[:, 7].tolist()
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["pdf"], expected.pdf)
        np.testing.assert_array_equal(arrays["object_id"], expected.object_id)
    response = PredictResponse.model_validate_json((tmp_path / "out.json").read_text())
    assert response.z_hi95 == expected.z_hi95.tolist()


@pytest.mark.e2e
def test_ebv_option_overrides_the_column(at, npz, columns, service_url, tmp_path):
    at("predict", npz, "--ebv", 0.5, "-o", tmp_path / "out.npz")
    with PhotozClient(service_url) as client:
        expected = client.predict(columns["images"], ebv=0.5).z_mean
        assert not np.array_equal(client.predict(columns["images"], ebv=columns["ebv"]).z_mean, expected)
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["z_mean"], expected)


@pytest.mark.e2e
def test_split_option_selects_rows(at, h5, npz, npy):
    for file in (h5, npz):
        status, out, _ = at("predict", file, "--split", "test")
        assert status == 0
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["galaxy-1", "galaxy-3", "galaxy-5"]
    status, _, err = at("predict", h5, "--split", "tset")
    assert (status, err) == (1, "Error: no cutout belongs to the split 'tset'; the file has test, train\n")
    status, _, err = at("predict", npy, "--split", "test")
    assert status == 1
    assert err.startswith("Error: expected a column 'split'")


@pytest.mark.e2e
def test_evaluate_prints_metrics_and_writes_report_and_plot(at, h5, tmp_path):
    files = ("--report", tmp_path / "r.html", "--plot", "pit", "--plot-file", tmp_path / "p.SVG")
    status, out, _ = at("evaluate", h5, *files)
    assert status == 0
    assert out.startswith("6 galaxies, model ")
    (line,) = (line for line in out.splitlines() if line.split()[0] == "sigma_mad")
    assert line.split()[2] == "±"
    assert "</html>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "p.SVG").read_text()
    assert at("evaluate", h5, "--plot-file", tmp_path / "scatter.png")[0] == 0
    assert (tmp_path / "scatter.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_evaluate_needs_true_redshifts(at, npy):
    status, _, err = at("evaluate", npy)
    assert status == 1
    assert err.startswith("Error: expected a column 'z_spec'")


@pytest.mark.e2e
def test_model_prints_the_card_as_text_and_as_json(at):
    status, out, _ = at("model")
    assert status == 0
    assert "p(z) in" in out
    assert Card.model_validate_json(at("model", "--json")[1]).is_sealed()


@pytest.mark.e2e
def test_wait_returns_when_the_service_is_ready(at):
    assert at("wait", "--timeout", 60) == (0, "", "")


@pytest.mark.e2e
def test_refused_input_prints_the_message_of_the_service(at, npy):
    status, out, err = at("predict", npy)
    assert (status, out) == (1, "")
    assert err.startswith("Error: expected images of shape (n, ")
    assert err.count("\n") == 1


@pytest.fixture
def one_part_fails(tmp_path, small_requests):
    """A file of 12 cutouts, and a service that fails on rows 4 to 7."""
    np.save(tmp_path / "cutouts.npy", numbered_cutouts(12))
    with serve(lambda request: error(500) if first_row(request) == ROWS else prediction(request)) as server:
        yield tmp_path / "cutouts.npy", "--url", server.url


PREDICTED = [str(row) for row in (0, 1, 2, 3, 8, 9, 10, 11)]
MESSAGE = "Error: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at"


@pytest.mark.parametrize("in_flight", [1, 3])
def test_other_cutouts_are_written_when_some_fail(photoz, one_part_fails, tmp_path, in_flight):
    for suffix in ("csv", "npz"):
        status, out, err = photoz("predict", *one_part_fails, "--in-flight", in_flight, "-o", tmp_path / f"z.{suffix}")
        assert (status, out) == (1, "")
        wrote, message = err.splitlines()
        assert wrote.startswith("wrote 8 rows to ")
        assert message.startswith(MESSAGE)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "z.csv").read_text())))
    assert [row["object_id"] for row in rows] == PREDICTED
    with np.load(tmp_path / "z.npz") as arrays:
        assert arrays["object_id"].tolist() == PREDICTED


def test_other_cutouts_are_printed_when_some_fail(photoz, one_part_fails):
    status, out, err = photoz("predict", *one_part_fails)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()[1:]] == PREDICTED
    assert err.startswith(MESSAGE)


def test_unreachable_service_prints_one_line(photoz, npy):
    url = "http://127.0.0.1:9"
    message = f"no photoz service answers at {url}: connection refused; is it running?\n"
    assert photoz("predict", npy, "--url", url) == (1, "", f"Error: {message}")
    expected = f"Error: the service was not ready after 0.1 s: {message}"
    assert photoz("wait", "--url", url, "--timeout", 0.1) == (1, "", expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "missing.npy"], "does not exist"),
        (["predict", "{npy}", "-o", "out.xls"], "should end in .csv, .json, .npz"),
        (["predict", "{npy}", "-o", "no/such/folder/out.csv"], "there is no folder no/such/folder"),
        (["predict", "{npy}", "--pdf"], "--pdf needs --output"),
        (["predict", "{npy}", "--ebv", "much"], "'much' is not a valid float"),
        (["predict", "{npy}", "--in-flight", "0"], "0 is not in the range x>=1"),
        (["evaluate", "{npy}", "--plot", "pit"], "--plot needs --plot-file"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(photoz, npy, arguments, message):
    status, _, err = photoz(*(argument.format(npy=npy) for argument in arguments))
    assert status == 2
    assert message in err


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "fits"])
def test_a_file_without_cutouts_prints_one_line(photoz, tmp_path, suffix, content):
    path = tmp_path / f"cutouts.{suffix}"
    path.write_bytes(content)
    status, _, err = photoz("predict", path)
    assert status == 1
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [(), ("predict",), ("evaluate",), ("compare",), ("model",), ("wait",)])
def test_help_and_version(photoz, command):
    status, out, _ = photoz(*command, "--help")
    assert status == 0
    assert out.startswith(" ".join(["Usage: photoz", *command]))
    assert photoz("--version") == (0, f"photoz, version {__version__}\n", "")


@pytest.mark.e2e
def test_the_command_runs_as_a_process(service_url):
    code = "from photoz_client.cli import main; main()"
    command = [sys.executable, "-c", code, "model", "--json", "--url", service_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["schema_version"] == 1
    assert done.stderr == ""
