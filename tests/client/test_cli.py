"""The command `photoz`, on the real service where it needs one."""

import csv
import io
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from unruly import good, numbered, refusal, serving

from photoz import __version__
from photoz.protocol.contract import PredictResponse
from photoz_client import Card, PhotozClient, _galaxies
from photoz_client.cli import main


@pytest.fixture
def photoz(capsys):
    """Run the command in this process; returns its status, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return done.value.code or 0, captured.out, captured.err

    return run


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
        "split": np.array(["train", "test", "train", "test", "train", "test"]),
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
def test_predict_prints_one_line_a_galaxy(at, npz):
    status, out, _ = at("predict", npz)
    head, *lines = out.splitlines()
    assert status == 0
    assert head.split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert [line.split()[0] for line in lines] == [f"galaxy-{i}" for i in range(6)]


@pytest.mark.e2e
def test_the_files_hold_what_the_sdk_returns(at, npz, columns, service_url, tmp_path):
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
def test_the_ebv_of_the_command_line_goes_before_the_one_of_the_file(at, npz, columns, service_url, tmp_path):
    at("predict", npz, "--ebv", 0.5, "-o", tmp_path / "out.npz")
    with PhotozClient(service_url) as client:
        expected = client.predict(columns["images"], ebv=0.5).z_mean
        assert not np.array_equal(client.predict(columns["images"], ebv=columns["ebv"]).z_mean, expected)
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["z_mean"], expected)


@pytest.mark.e2e
def test_split_takes_the_rows_of_one_split(at, h5, npz, npy):
    for file in (h5, npz):
        status, out, _ = at("predict", file, "--split", "test")
        assert status == 0
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["galaxy-1", "galaxy-3", "galaxy-5"]
    status, _, err = at("predict", h5, "--split", "tset")
    assert (status, err) == (1, "Error: no cutout belongs to the split 'tset'; there are test, train\n")
    status, _, err = at("predict", npy, "--split", "test")
    assert (status, err) == (1, "Error: expected a column 'split'; there are none\n")


@pytest.mark.e2e
def test_evaluate_prints_the_figures_with_errors_and_writes_report_and_plot(at, h5, tmp_path):
    status, out, _ = at(
        "evaluate", h5, "--report", tmp_path / "r.html", "--plot", "pit", "--plot-file", tmp_path / "p.SVG"
    )
    assert status == 0
    assert out.startswith("6 galaxies, model ")
    (line,) = (line for line in out.splitlines() if line.split()[0] == "sigma_mad")
    assert line.split()[2] == "±"
    assert "</html>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "p.SVG").read_text()


@pytest.mark.e2e
def test_evaluate_plots_a_scatter_unless_told_otherwise(at, npz, tmp_path):
    status, _, _ = at("evaluate", npz, "--plot-file", tmp_path / "p.png")
    assert status == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_evaluate_needs_true_redshifts(at, npy):
    status, _, err = at("evaluate", npy)
    assert (status, err) == (1, "Error: expected a column 'z_spec'; there are none\n")


@pytest.mark.e2e
def test_model_prints_the_card_for_people_and_for_programs(at):
    status, out, _ = at("model")
    assert status == 0
    assert "p(z) in" in out
    status, out, _ = at("model", "--json")
    assert Card.model_validate_json(out).is_sealed()


@pytest.mark.e2e
def test_wait_returns_when_the_service_is_ready(at):
    assert at("wait", "--timeout", 60) == (0, "", "")


@pytest.mark.e2e
def test_input_that_the_service_refuses_prints_its_sentence(at, npy):
    status, out, err = at("predict", npy)
    assert (status, out) == (1, "")
    assert err.startswith("Error: expected images of shape (n, ")
    assert err.count("\n") == 1


@pytest.fixture
def a_third_fails(tmp_path, monkeypatch):
    """A file of 12 cutouts, and the address of a service that answers the requests for all but rows 4 to 7."""
    monkeypatch.setattr(_galaxies, "ROWS_PER_REQUEST", 4)
    np.save(tmp_path / "cutouts.npy", numbered(12))
    with serving(lambda asked: refusal(500) if asked.first == 4 else good(asked)) as server:
        yield tmp_path / "cutouts.npy", "--url", server.url


LEFT = [str(row) for row in (0, 1, 2, 3, 8, 9, 10, 11)]
COMPLAINT = "Error: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at"


@pytest.mark.parametrize("in_flight", [1, 3])
def test_cutouts_that_fail_leave_the_others_in_the_file(photoz, a_third_fails, tmp_path, in_flight):
    for suffix in ("csv", "npz"):
        status, out, err = photoz("predict", *a_third_fails, "--in-flight", in_flight, "-o", tmp_path / f"z.{suffix}")
        assert (status, out) == (1, "")
        wrote, complaint = err.splitlines()
        assert wrote.startswith("wrote 8 rows to ")
        assert complaint.startswith(COMPLAINT)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "z.csv").read_text())))
    assert [row["object_id"] for row in rows] == LEFT
    with np.load(tmp_path / "z.npz") as arrays:
        assert arrays["object_id"].tolist() == LEFT


def test_cutouts_that_fail_leave_the_others_in_the_table(photoz, a_third_fails):
    status, out, err = photoz("predict", *a_third_fails)
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()[1:]] == LEFT
    assert err.startswith(COMPLAINT)


def test_a_service_that_does_not_run_prints_one_line(photoz, npy):
    status, _, err = photoz("predict", npy, "--url", "http://127.0.0.1:9")
    assert status == 1
    assert err == "Error: no photoz service answers at http://127.0.0.1:9: connection refused; is it running?\n"


def test_waiting_in_vain_ends(photoz):
    status, _, err = photoz("wait", "--url", "http://127.0.0.1:9", "--timeout", 0.1)
    assert status == 1
    assert err.startswith("Error: waited 0.1 s in vain: no photoz service answers")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.npy"], "does not exist"),
        (["{npy}", "-o", "out.xls"], "should end in .csv, .json, .npz"),
        (["{npy}", "-o", "no/such/folder/out.csv"], "there is no folder no/such/folder"),
        (["{npy}", "--pdf"], "--pdf needs --output"),
        (["{npy}", "--ebv", "much"], "'much' is not a valid float"),
        (["{npy}", "--in-flight", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_wrong_call_is_refused_before_any_work(photoz, npy, arguments, complaint):
    status, _, err = photoz("predict", *(argument.format(npy=npy) for argument in arguments))
    assert status == 2
    assert complaint in err


def test_a_plot_needs_a_file(photoz, npy):
    status, _, err = photoz("evaluate", npy, "--plot", "pit")
    assert status == 2
    assert "--plot needs --plot-file" in err


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "fits"])
def test_a_file_that_holds_no_cutouts_prints_one_line(photoz, tmp_path, suffix, content):
    path = tmp_path / f"cutouts.{suffix}"
    path.write_bytes(content)
    status, _, err = photoz("predict", path)
    assert status == 1
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_help_and_version_read_well(photoz):
    for command in ((), ("predict",), ("evaluate",), ("model",), ("wait",)):
        status, out, _ = photoz(*command, "--help")
        assert status == 0
        assert out.startswith(" ".join(["Usage: photoz", *command]))
    assert photoz("--version") == (0, f"photoz, version {__version__}\n", "")


@pytest.mark.e2e
def test_the_command_runs_as_a_process_of_its_own(service_url):
    code = "from photoz_client.cli import main; main()"
    command = [sys.executable, "-c", code, "model", "--json", "--url", service_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["schema_version"] == 1
    assert done.stderr == ""
