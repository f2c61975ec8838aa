"""The command `photoz`, on the real service or on servers that fail."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from photoz import __version__
from photoz.protocol.contract import PredictResponse
from photoz_client import Card, PhotozClient


@pytest.fixture
def run(photoz, service_url, folder, monkeypatch):
    """Run the command against the real service, in a folder with cutouts."""
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    monkeypatch.chdir(folder)
    return photoz


@pytest.fixture
def npy(tmp_path):
    """A file of another size and other bands than the model takes."""
    np.save(tmp_path / "small.npy", np.ones((1, 8, 8, 2)))
    return tmp_path / "small.npy"


@pytest.mark.e2e
def test_predict_writes_what_the_sdk_returns(run, columns, service_url):
    with PhotozClient(service_url) as client:
        expected = client.predict(columns["images"], ebv=columns["ebv"], object_id=columns["object_id"], pdf=True)
        run("predict", "cutouts.npz", "--ebv", 0.5, "-o", "ebv.npz")
        with np.load("ebv.npz") as arrays:
            assert arrays["z_mean"].tolist() == client.predict(columns["images"], ebv=0.5).z_mean.tolist()
    with PhotozClient(service_url, wire_dtype="float16") as client:
        run("predict", "cutouts.npz", "--ebv", 0.5, "--wire-dtype", "float16", "-o", "half.npz")
        with np.load("half.npz") as arrays:
            assert arrays["z_mean"].tolist() == client.predict(columns["images"], ebv=0.5).z_mean.tolist()
    for suffix in ("csv", "npz", "json"):
        status, out, err = run("predict", "cutouts.npz", "--pdf", "-o", f"out.{suffix}")
        assert (status, out) == (0, "")
        assert "6 rows" in err
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [float(row["z_mean"]) for row in rows] == expected.z_mean.tolist()
    assert [float(row["pdf_7"]) for row in rows] == expected.pdf[:, 7].tolist()
    with np.load("out.npz") as arrays:
        np.testing.assert_array_equal(arrays["pdf"], expected.pdf)
        np.testing.assert_array_equal(arrays["object_id"], expected.object_id)
    content = json.loads(Path("out.json").read_text())
    assert content.pop("z_spec") == columns["z_spec"].tolist()
    response = PredictResponse.model_validate(content)
    assert response.z_hi95 == expected.z_hi95.tolist()


@pytest.mark.e2e
def test_predict_prints_one_line_per_galaxy_of_the_split(run):
    for file in ("cutouts.h5", "cutouts.npz"):
        status, out, err = run("predict", file, "--split", "test")
        assert status == 0
        assert f"{file}: 6 cutouts read, 3 used, 3 left out: not of the split test\n" in err
        words = [line.split() for line in out.splitlines()]
        assert words[0] == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
        assert [name for name, *_ in words[1:]] == ["galaxy-1", "galaxy-3", "galaxy-5"]
    status, _, err = run("predict", "cutouts.h5", "--split", "tset")
    assert (status, err.splitlines()[-1]) == (
        1,
        "Error: no cutout belongs to the split 'tset'; the file has test, train",
    )


@pytest.mark.e2e
def test_unusable_files_print_one_line(run, npy, columns):
    np.save("images.npy", columns["images"])
    for arguments, message in (
        (["predict", "images.npy", "--split", "test"], "expected a column 'split'"),
        (["evaluate", "images.npy"], "expected a column 'z_spec'"),
        (["predict", npy], "expected 5 bands as the second or the last axis of images, got shape (1, 8, 8, 2)"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (1, "")
        assert err.splitlines()[-1].startswith(f"Error: {message}")


@pytest.mark.e2e
def test_bands_and_zero_point_of_a_fits_file(run, columns, service_url):
    with PhotozClient(service_url) as client:
        expected = client.predict(columns["images"], ebv=0.1).z_mean
    bands_first = np.moveaxis(columns["images"], -1, 1)[:, ::-1] * np.float32(100)
    fits.PrimaryHDU(np.ascontiguousarray(bands_first)).writeto("images.fits")
    options = ("--bands", "zirgu", "--zero-point", 27.5, "--ebv", 0.1, "-o", "z.npz", "--reading-report", "read.txt")
    status, _, err = run("predict", "images.fits", *options)
    assert status == 0
    report = Path("read.txt").read_text()
    assert report.splitlines()[:3] == [
        "images.fits: 6 cutouts read, all used",
        "  assumed: the bands u,g,r,i,z are taken from z,i,r,g,u",
        "  assumed: pixels are multiplied by 0.01, for the zero point 27.5",
    ]
    assert report in err
    with np.load("z.npz") as arrays:
        np.testing.assert_allclose(arrays["z_mean"], expected, atol=1e-4)


@pytest.mark.e2e
def test_evaluate_prints_metrics_and_writes_report_and_plot(run):
    status, out, _ = run("evaluate", "cutouts.h5", "--report", "r.html", "--plot", "pit", "--plot-file", "p.SVG")
    assert status == 0
    assert out.startswith("6 galaxies, model ")
    (line,) = (line for line in out.splitlines() if line.split()[0] == "sigma_mad")
    assert line.split()[2] == "±"
    assert "</html>" in Path("r.html").read_text(encoding="utf-8")
    assert "<svg" in Path("p.SVG").read_text()
    assert run("evaluate", "cutouts.h5", "--plot-file", "scatter.png")[0] == 0
    assert Path("scatter.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_wait_and_model_print_nothing_and_the_card(run):
    status, out, _ = run("model")
    assert status == 0
    assert "p(z) in" in out
    assert Card.model_validate_json(run("model", "--json")[1]).is_sealed()
    assert run("wait") == (0, "", "")


PREDICTED = [str(row) for row in (0, 1, 2, 3, 8, 9, 10, 11)]
MESSAGE = "Error: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at"


@pytest.mark.parametrize("in_flight", [1, 3])
def test_other_cutouts_are_printed_or_written_when_some_fail(photoz, one_part_fails, tmp_path, in_flight):
    status, out, err = photoz("predict", *one_part_fails)
    assert (status, [line.split()[0] for line in out.splitlines()[1:]]) == (1, PREDICTED)
    assert err.splitlines()[-1].startswith(MESSAGE)
    for suffix in ("csv", "npz"):
        status, out, err = photoz("predict", *one_part_fails, "--in-flight", in_flight, "-o", tmp_path / f"z.{suffix}")
        assert (status, out) == (1, "")
        *_, wrote, message = err.splitlines()
        assert wrote.startswith("wrote 8 rows to ")
        assert message.startswith(MESSAGE)
    rows = list(csv.DictReader((tmp_path / "z.csv").read_text().splitlines()))
    assert [row["object_id"] for row in rows] == PREDICTED
    with np.load(tmp_path / "z.npz") as arrays:
        assert arrays["object_id"].tolist() == PREDICTED


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
