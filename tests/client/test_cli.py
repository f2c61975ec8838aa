"""The command `photoz`, and its wheel, which holds the core, the client and the survey package and needs little."""

import io
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from packaging.requirements import Requirement
from pyarrow.parquet import ParquetFile

from photoz import __version__
from photoz.grid import SDSS_GRID
from photoz.images import ImageSpec
from photoz.io.formats import WRITTEN_SUFFIXES, written_format
from photoz.io.provenance import Provenance
from photoz.io.tables import json_bytes, result_table
from photoz.io.writer import write_table
from photoz.metrics import Score
from photoz.model import card as cards
from photoz_client import PhotozClient
from photoz_client._cli_text import card_text, evaluation_text
from tests.client.answers import EVALUATION, EVALUATIONS, decode, failing_at, numbered_cutouts, with_card
from tests.client.server import ROWS, TIMEOUT
from tests.running import ROOT
from tests.toys import toy_card

ASSUMED = """\
  assumed: the bands are g,r in this order
  assumed: pixels are in nanomaggy
  assumed: pixels are 0.396 arcsec wide
"""
NOTES = {"assumed": tuple(line.removeprefix("  assumed: ") for line in ASSUMED.splitlines())}
DATE = "2026-01-02T03:04:05Z"


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")


def expected_table(server, quantiles=()):
    with PhotozClient(server.url, timeout=TIMEOUT) as client:
        prediction = client.predict(numbered_cutouts(12), pdf=True)
    source = Provenance("photoz 1", "cutouts.npz", DATE, notes=NOTES)
    return result_table(prediction, source, SDSS_GRID, quantiles, {"z_spec": np.linspace(0.01, 0.12, 12)})


@pytest.mark.parametrize("suffix", {written_format(Path("z" + suffix)): suffix for suffix in WRITTEN_SUFFIXES}.values())
def test_predict_writes_what_the_sdk_returns(run, server, suffix):
    written, expected = Path(f"written{suffix}"), Path(f"expected{suffix}")
    cases = [(("--pdf",), ()), (("--quantiles", "0.16,0.84"), (0.16, 0.84))]
    for options, quantiles in cases[: 1 if suffix == ".qp.hdf5" else 2]:
        report = f"cutouts.npz: 12 cutouts read, all used\n{ASSUMED}wrote 12 rows to {written}\n"
        assert run("predict", "cutouts.npz", "--overwrite", *options, "-o", written) == (0, "", report)
        write_table(expected_table(server, quantiles), expected)
        if suffix == ".parquet":
            pd.testing.assert_frame_equal(pd.read_parquet(written), pd.read_parquet(expected))
            assert ParquetFile(io.BytesIO(written.read_bytes())).num_row_groups == 3
        else:
            assert written.read_bytes() == expected.read_bytes()


def test_predict_prints_a_table_or_json(run, server):
    status, out, err = run("predict", "cutouts.npz", "--split", "test", "--reading-report", "read.txt")
    report = f"cutouts.npz: 12 cutouts read, 6 used, 6 left out: not of the split test\n{ASSUMED}"
    assert (status, err, Path("read.txt").read_text()) == (0, report, report)
    head, *rows = (line.split() for line in out.splitlines())
    assert head == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert [row[:2] for row in rows] == [[str(i), f"{SDSS_GRID.centres[i + 6]:.4f}"] for i in range(6)]
    status, out, _ = run("predict", "cutouts.npz", "--json", "--pdf")
    assert (status, out) == (0, json_bytes(expected_table(server)).decode() + "\n")
    status, _, err = run("predict", "cutouts.npz", "--split", "tset")
    assert (status, err) == (1, "Error: cutouts.npz: no cutout belongs to the split 'tset'; the file has test, train\n")


def test_options_select_what_is_sent_and_how(run, server):
    for options, dtype, ebv in (((), "FP32", 0.25), (("--ebv", 0.5, "--wire-dtype", "float16"), "FP16", 0.5)):
        server.concurrent.clear()
        assert run("predict", "cutouts.npz", "--in-flight", 1, *options)[0] == 0
        sent = decode(server.requests[-1]).inputs
        assert (sent["images"].datatype, set(sent["ebv"].array.tolist())) == (dtype, {ebv})
        assert set(server.concurrent) == {1}
    pixels = numbered_cutouts(3) + np.float32([0, 1])
    fits.PrimaryHDU(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)[:, ::-1] * 100)).writeto("images.fits")
    status, _, err = run("predict", "images.*", "--bands", "rg", "--zero-point", 27.5)
    assert (status, err.splitlines()[0]) == (0, "images.*: 3 cutouts read, all used")
    assert "\n  used: the bands g,r are taken from r,g\n" in err
    assert "\n  used: pixels are multiplied by 0.01, for the zero point 27.5\n" in err
    sent = decode(server.requests[-1]).inputs
    np.testing.assert_allclose(sent["images"].array, pixels, rtol=1e-6)
    assert ("  assumed: E(B-V) is unknown" in err, "ebv" in sent) == (True, False)


def test_resampled_cutouts_have_a_flag(run):
    np.savez("fine.npz", images=numbered_cutouts(12).repeat(2, axis=1).repeat(2, axis=2), pixel_scale=0.198)
    status, _, err = run("predict", "fine.npz")
    assert (status, err.splitlines()[-1]) == (
        1, "Error: fine.npz: expected pixels of 0.396 arcsec, got 0.198: resample them, as commands do with --resample"
    )  # fmt: skip
    status, out, err = run("predict", "fine.npz", "--resample")
    assert status == 0
    assert "used: pixels of 0.198 arcsec are resampled to 0.396 arcsec, RESAMPLED" in err
    assert all("RESAMPLED" in line for line in out.splitlines()[1:])


def test_evaluate_prints_scores_and_writes_report_and_plot(run, server):
    text = "2 galaxies, model photoz 1\n  bias    0.0012 ± 0.0004\nleft out, z_spec not on the grid: 1 (b)\n"
    status, out, _ = run("evaluate", "cutouts.npz", "--report", "r.html", "--plot", "pit", "--plot-file", "p.SVG")
    assert (status, out) == (0, text)
    assert Path("r.html").read_bytes() == EVALUATIONS["text/html"]
    assert Path("p.SVG").read_bytes() == EVALUATIONS["image/svg+xml"]
    assert server.requests[-1].url.params["plot"] == "pit"
    status, out, _ = run("evaluate", "cutouts.npz", "--plot-file", "scatter.png", "--json")
    assert (status, out) == (0, EVALUATION.model_dump_json(indent=2) + "\n")
    assert Path("scatter.png").read_bytes() == EVALUATIONS["image/png"]
    assert server.requests[-1].url.params["plot"] == "scatter"
    many = EVALUATION.model_copy(update={"dropped": list("abcdef")})
    assert evaluation_text(many)[-1] == "left out, z_spec not on the grid: 6 (a, b, c, d, e, ...)"


def test_the_card_is_printed(run):
    assert run("--version") == (0, f"photoz, version {__version__}\n", "")
    status, out, err = run("model")
    assert (status, err, out.split()[:2]) == (0, "", ["photoz", "1,"])
    card = toy_card(ImageSpec(size=8, bands="gr"), SDSS_GRID, takes_ebv=True, caveats=("Only for tests.",))
    tested = cards.TestRecord(data="mocks", n_galaxies=1986, scores={"mean": {"bias": Score(0.0012, 0.0004)}})
    for inputs, ebv in (
        (card.inputs, "used; 0.030 mag is assumed if it is not given"),
        (cards.Inputs(ebv=False), "not used"),
        (cards.Inputs(ebv=True, ebv_assumed=None), "used; PDFs are broader if it is not given"),
    ):
        assert card_text(card.model_copy(update={"test": tested, "inputs": inputs})) == [
            f"toy 1, made 2026-01-01, licence {card.licence}",
            "takes     8 x 8 x 2 cutouts, bands g,r, 0.396 arcsec/pixel, nanomaggy",
            f"E(B-V)    {ebv}",
            "gives     p(z) in 180 bins, 0 <= z <= 0.4",
            "network   toy, 0 parameters",
            "trained   on 0 galaxies: none",
            "tested    on 1,986 galaxies: mocks",
            "  mean",
            "    bias    0.0012 ± 0.0004",
            "caveat    Only for tests.",
        ]


@pytest.mark.parametrize("options", [(), ("--in-flight", 1), ("--quantiles", "0.5")])
def test_other_cutouts_are_printed_or_written_when_some_fail(run, server, card, options):
    server.behave = with_card(card, failing_at(ROWS))
    rows = [0, 1, 2, 3, 8, 9, 10, 11]
    message = "Error: 4 of 12 cutouts have no prediction; cutouts 4 to 7: the service at"
    status, out, _ = run("predict", "cutouts.npz")
    assert (status, [line.split()[0] for line in out.splitlines()[1:]]) == (1, list(map(str, rows)))
    for suffix in ("csv", "npz", "parquet"):
        status, out, err = run("predict", "cutouts.npz", *options, "-o", f"z.{suffix}")
        assert (status, out) == (1, "")
        *_, wrote, error = err.splitlines()
        assert (wrote, error.startswith(message)) == (f"wrote 8 rows to z.{suffix}", True)
    with np.load("z.npz") as arrays:
        assert arrays["object_id"].tolist() == rows
        assert ("z_q50" in arrays) == ("--quantiles" in options)
    for table in (pd.read_csv("z.csv"), pd.read_parquet("z.parquet")):
        assert table["object_id"].tolist() == rows
        assert table["z_spec"].tolist() == pytest.approx([0.01 * (int(row) + 1) for row in rows])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "missing.npy"], "missing.npy does not exist"),
        (["predict", "cutouts.npz", "-o", "out.xls"], "out.xls should end in .csv, .json, .npz"),
        (["predict", "cutouts.npz", "-o", "no/such/folder/out.csv"], "there is no folder no/such/folder"),
        (
            ["predict", "cutouts.npz", "-o", "{cwd}/cutouts.npz", "--overwrite"],
            "holds the cutouts: choose another file",
        ),
        (["predict", "cutouts.npz", "-o", "old.csv"], "old.csv exists: choose another name, or replace it with --over"),
        (["evaluate", "cutouts.npz", "--report", "old.html"], "old.html exists: choose another name"),
        (["evaluate", "cutouts.npz", "--plot-file", "old.png"], "old.png exists: choose another name"),
        (["compare", "a", "b", "cutouts.npz", "--reading-report", "old.txt"], "old.txt exists: choose another name"),
        (["predict", "cutouts.npz", "-o", "z.csv", "--json"], "leave out --output, or --json"),
        (["predict", "cutouts.npz", "--pdf"], "--pdf needs --output or --json: tables have no PDFs"),
        (["predict", "cutouts.npz", "--quantiles", "0.5"], "--quantiles needs --output or --json"),
        (["predict", "cutouts.npz", "--quantiles", "0.5", "--pdf", "-o", "z.csv"], "are written in place of the PDFs"),
        (["predict", "cutouts.npz", "--quantiles", "0.5", "-o", "z.qp.hdf5"], "are written in place of the PDFs"),
        (["predict", "cutouts.npz", "--quantiles", "0.5;0.9"], "expected numbers such as 0.05,0.5,0.95, got 0.5;0.9"),
        (["evaluate", "cutouts.npz", "--plot", "pit"], "--plot needs --plot-file"),
        (["predict", "cutouts.npz", "-o", "z.qp.h5"], "Error: z.qp.h5 should end in .csv, "),
        (["predict", "cutouts.npz", "-o", "z.parquet"], "Error: z.parquet needs pyarrow: install it with pip install"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(run, server, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("old.csv", "old.html", "old.png", "old.txt"):
        Path(name).write_text("old")
    status, out, err = run(*(argument.format(cwd=Path.cwd()) for argument in arguments))
    assert (status, out, message in " ".join(err.split())) == (1 if message.startswith("Error") else 2, "", True), err
    assert server.requests == []
    assert {path.read_text() for path in Path().glob("old.*")} == {"old"}


def test_files_are_replaced_if_asked_for(run):
    for options, n in (((), 12), (("--overwrite", "--split", "test"), 6)):
        assert run("predict", "cutouts.npz", *options, "-o", "z.csv")[0] == 0
        assert len(pd.read_csv("z.csv")) == n


def test_unusable_files_print_one_line(run):
    for suffix, content in product(("npy", "npz", "h5", "fits"), (b"", b"hello", b"\x93NUMPY\x01\x00")):
        Path(f"bad.{suffix}").write_bytes(content)
        status, out, err = run("predict", f"bad.{suffix}")
        assert (status, out, err[:7], err.count("\n"), "service" in err) == (1, "", "Error: ", 1, False)


def test_unreachable_service_prints_one_line(run, monkeypatch):
    monkeypatch.setattr("photoz_client._retries.FIRST_CONTACT_BUDGET", 0.0)
    assert run("wait") == (0, "", "")
    url = "http://127.0.0.1:9"
    message = f"no photoz service answers at {url}: connection refused; is it running?\n"
    assert run("predict", "cutouts.npz", "--url", url) == (1, "", f"Error: {message}")
    expected = f"Error: the service was not ready after 0.1 s: {message}"
    assert run("wait", "--url", url, "--timeout", 0.1) == (1, "", expected)


DEPENDENCIES = (PROJECT := tomllib.loads((ROOT / "pyproject.toml").read_text()))["project"]["dependencies"]
DIST = SimpleNamespace(**runpy.run_path(str(ROOT / "requirements" / "dist.py")))


def test_every_package_and_light_dependencies_are_declared():
    modules = {name.rpartition("/")[0].replace("/", ".") for _, name in DIST.sources() if name.endswith("/__init__.py")}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(modules)
    assert {Requirement(entry).name for entry in DEPENDENCIES} == {"numpy", "pydantic", "httpx", "click", "h5py"}


def test_the_command_works_with_light_packages_alone(server, bundle_path, tmp_path):
    heavy = "tensorflow keras bentoml scipy matplotlib astropy openvino pandas jinja2 fsspec pebble tqdm"
    code = f"""
import sys
sys.modules |= dict.fromkeys("{heavy}".split())  # as if they were not installed
from photoz_client.cli import main
cutouts, url, bundle = sys.argv[1:]
for command in (
    ["predict", cutouts, "--url", url],
    ["predict", cutouts, "--bundle", bundle],
    ["score", "--bundle", "x", "--output", "x", "x"],
):
    try:
        main(command)
    except SystemExit as end:
        print(end.code)
"""
    np.save(tmp_path / "cutouts.npy", numbered_cutouts(8))
    command = [sys.executable, "-c", code, tmp_path / "cutouts.npy", server.url, bundle_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["object_id", *"01234567", "0", "1", "1"], (
        done.stderr
    )
    *_, local, survey = done.stderr.splitlines()
    assert local == "Error: without a service this needs openvino: install it with pip install 'photoz[local]'"
    assert survey.endswith("install it with pip install 'photoz[survey]'")


def test_the_newest_release_is_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(\d.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest.groups() == (__version__, citation["date-released"])
    assert citation["version"] == __version__
    assert f"ARG VERSION={__version__} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.acceptance
def test_the_distributions_hold_our_packages_and_nothing_else(tmp_path):
    sdist, wheel = DIST.build(tmp_path / "dist")
    assert DIST.differences(sdist, wheel) == []
    assert {"photoz/report.html", "photoz/py.typed", "photoz_client/py.typed"} <= set(DIST.contents(wheel))
    changed = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(changed, "w") as bad:
        texts = {name.rpartition("/")[2]: good.read(name).decode() for name in good.namelist() if "-info" in name}
        bad.writestr("tests/__init__.py", "")
        for name in {*good.namelist()} - {"photoz/py.typed"}:
            bad.writestr(name, good.read(name))
    expected = [f"{changed.name} lacks photoz/py.typed", f"{changed.name} should not have tests/__init__.py"]
    assert DIST.differences(sdist, changed) == expected
    required = HeaderParser().parsestr(texts["METADATA"]).get_all("Requires-Dist")
    assert sorted(entry for entry in required if "extra ==" not in entry) == sorted(DEPENDENCIES)
    assert "photoz = photoz_client.cli:main" in texts["entry_points.txt"]
