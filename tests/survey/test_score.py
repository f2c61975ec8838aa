"""`photoz score`: every row once, with the Predictor's own values, whatever happens on the way."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from pyarrow import parquet

from photoz.errors import InvalidInput
from photoz.inference.predictor import Predictor
from photoz.pdf import quantile
from photoz_survey.manifest import Manifest
from tests.running import ROOT
from tests.toys import GRIZ, galaxies, toy_batch

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients/python")])}


def rows(folder, kind="done"):
    """Return all rows of a run, in the order of their parts."""
    parts = sorted((folder / kind).glob("part-*.parquet"))
    return [row for part in parts for row in parquet.read_table(part).to_pylist()]


def files(folder):
    """Return the bytes of all files in `done` and `rejected`, by their names."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/*")}


def command(*arguments):
    return [sys.executable, "-c", "from photoz_client.cli import main; main()", "score", *map(str, arguments)]


def test_estimates_are_those_of_the_predictor(score, bundle, write_cutouts, tmp_path):
    first, second = galaxies(GRIZ, 300, seed=2), galaxies(GRIZ, 5, seed=3)
    z_spec, names = np.linspace(0.1, 0.5, 300), [f"galaxy {row}" for row in range(300)]
    paths = [
        write_cutouts("a.h5", 300, images=first, z_spec=z_spec, object_id=names, run=np.arange(300)),
        write_cutouts("b.h5", 5, images=second, run=np.arange(5)),
    ]
    summary = score(*paths, rows_per_part=256, pdf="float32", quantiles=(0.25,), columns=("run",))
    assert (summary.n_done, summary.n_rejected) == (305, 0)
    found = rows(tmp_path / "out")
    assert [(row["file"], row["row"]) for row in found] == [
        (str(path), row) for path, n in zip(paths, (300, 5), strict=True) for row in range(n)
    ]
    predictor = Predictor.load(bundle)
    expected = predictor.predict(toy_batch(first[:256], bundle.card, np.linspace(0, 0.2, 300)[:256]))
    for name, values in expected.columns():
        if name not in ("object_id", "pdf"):
            np.testing.assert_array_equal([row[name] for row in found[:256]], values)
    np.testing.assert_array_equal([row["pdf"] for row in found[:256]], expected.pdf.astype(np.float32))
    assert [row["z_q25"] for row in found[:256]] == quantile(expected.pdf, bundle.card.grid, 0.25).tolist()
    assert [row["object_id"] for row in found[298:302]] == ["galaxy 298", "galaxy 299", "0", "1"]
    assert [row["run"] for row in found[298:302]] == [298, 299, 0, 1]
    assert found[299]["z_spec"] == 0.5
    assert np.isnan([found[300]["z_spec"], found[0]["ra"]]).all()


def test_bad_rows_and_files_are_rejected_with_the_reason(score, write_cutouts, tmp_path):
    images = galaxies(GRIZ, 300)
    images[7], images[8] = np.nan, 3e38
    ebv = np.where(np.arange(300) == 9, -1.0, 0.1)
    paths = [write_cutouts("bad.h5", 300, images=images, ebv=ebv), tmp_path / "broken.h5", write_cutouts("no.h5", 2)]
    paths[1].write_bytes(b"no HDF5")
    summary = score(*paths, columns=())
    assert (summary.n_done, summary.n_rejected) == (299, 4)
    rejected = {(row["file"], row["row"]): row["reason"] for row in rows(tmp_path / "out", "rejected")}
    assert rejected[str(paths[0]), 7].startswith("the cutout has no finite pixel")
    assert rejected[str(paths[0]), 8].startswith("the pixel values overflow the network")
    assert rejected[str(paths[0]), 9] == "expected 0 <= ebv <= 10 mag, got -1 for the cutout"
    assert "broken.h5" in rejected[str(paths[1]), None]
    done = {(row["file"], row["row"]) for row in rows(tmp_path / "out")}
    assert done.isdisjoint(rejected)
    assert len(done) == 299


def test_a_column_that_is_missing_is_the_reason(score, write_cutouts, tmp_path):
    score(write_cutouts("a.h5", 3), columns=("run",))
    assert {row["reason"] for row in rows(tmp_path / "out", "rejected")} == {"expected a column 'run'; there are ebv"}
    assert parquet.read_schema(tmp_path / "out/done/part-0000000.parquet").names[:3] == ["file", "row", "object_id"]


def test_many_files_of_a_cutout_each_share_parts(score, tmp_path):
    folder = tmp_path / "fits"
    folder.mkdir()
    for number, image in enumerate(galaxies(GRIZ, 20)):
        hdu = fits.PrimaryHDU(np.moveaxis(image, -1, 0))
        hdu.header["BANDS"] = "griz"
        hdu.writeto(folder / f"galaxy-{number:02d}.fits")
    score(folder, rows_per_part=8)
    assert len(list((tmp_path / "out/done").iterdir())) == 3
    assert [row["file"] for row in rows(tmp_path / "out")] == sorted(map(str, folder.iterdir()))


def test_only_what_is_missing_is_scored_again(score, write_cutouts, tmp_path):
    path, out = write_cutouts("a.h5", 100), tmp_path / "out"
    score(path, rows_per_part=30)
    before, kept = files(out), (out / "done/part-0000001.parquet").stat().st_mtime_ns
    (out / "done/part-0000002.parquet").unlink()
    with pytest.raises(InvalidInput, match="holds a run already: give --resume"):
        score(path, rows_per_part=30)
    score(path, rows_per_part=30, resume=True)
    assert files(out) == before
    assert (out / "done/part-0000001.parquet").stat().st_mtime_ns == kept
    manifest = Manifest.model_validate(json.loads((out / "manifest.json").read_text()))
    assert manifest.is_complete
    assert [part.n_done for part in manifest.parts] == [30, 30, 30, 10]


def test_what_has_changed_is_noticed(score, write_cutouts, tmp_path):
    path = write_cutouts("a.h5", 10)
    with pytest.raises(InvalidInput, match=r"holds no manifest.json: leave out --resume"):
        score(path, resume=True)
    score(path)
    with pytest.raises(InvalidInput, match="the run was begun with ebv = None, got 0.1"):
        score(path, resume=True, ebv=0.1)
    with pytest.raises(InvalidInput, match=r"1 inputs were not there when the run was begun, such as .*b\.h5"):
        score(path, write_cutouts("b.h5", 1), resume=True)
    write_cutouts("a.h5", 10, seed=5)
    with pytest.raises(InvalidInput, match=r"a\.h5 has changed since the run was begun"):
        score(path, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_stopped_is_resumed(bundle, write_cutouts, tmp_path, score, end):
    path = write_cutouts("a.h5", 4000)
    score(path, output=tmp_path / "whole", rows_per_part=50)
    arguments = command(path, "--bundle", bundle.path, "-o", tmp_path / "out", "--rows-per-part", 50, "--workers", 1)
    process = subprocess.Popen(arguments, env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    done = tmp_path / "out/done"
    while len(list(done.glob("part-*"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(end)
    message = process.communicate()[1]
    if end == signal.SIGTERM:
        assert process.returncode == 143
        assert "stopped by SIGTERM" in message
    assert 3 <= len(list(done.glob("part-*"))) < 80
    subprocess.run([*arguments, "--resume"], env=ENVIRONMENT, cwd=ROOT, check=True, capture_output=True)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_estimate_says_what_rows_take_and_writes_nothing(photoz, bundle, write_cutouts, tmp_path):
    path = write_cutouts("a.h5", 100)
    status, out, err = photoz("score", str(path), "--bundle", str(bundle.path), "--estimate", "1000000")
    assert (status, err) == (0, "")
    rate = float(re.match(r"on one core: ([\d,]+) rows/s, of 100 rows\n", out)[1].replace(",", ""))
    hours = float(re.search(r"  ([\d,.]+) core hours\n", out)[1])
    assert hours == pytest.approx(1e6 / rate / 3600, abs=0.06, rel=0.02)
    assert f"for each row: {path.stat().st_size / 100:,.0f} bytes to read, " in out
    assert f"{path.stat().st_size / 100 * 1e6 / 1e9:,.1f} GB to read" in out
    assert " to write, in 123 parts\n" in out
    status, _, err = photoz("score", str(path), "--bundle", str(bundle.path))
    assert (status, err.splitlines()[-1]) == (2, "Error: Missing option '-o' / '--output'.")
    path.write_bytes(b"")
    status, _, err = photoz("score", str(path), "--bundle", str(bundle.path), "--estimate", "10")
    assert status == 1
    assert err.startswith("Error: no input can be read: ")


@pytest.mark.slow
def test_a_full_disk_ends_a_run_that_is_resumed(bundle, write_cutouts, tmp_path, score):
    path, disk, kept = write_cutouts("a.h5", 4000), tmp_path / "disk", tmp_path / "kept"
    for folder in (disk, kept):
        folder.mkdir()
    alone = ["unshare", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    whole = score(path, output=tmp_path / "whole", rows_per_part=500, pdf="float32")
    arguments = command(path, "--bundle", bundle.path, "-o", disk / "out", "--rows-per-part", 500, "--pdf", "float32")
    run, size = shlex.join(map(str, arguments)), sum(map(len, files(tmp_path / "whole").values())) // 2
    script = f"""
        mount -t tmpfs -o size={size} tmpfs {disk} || exit 3
        {run} && exit 4
        mount -o remount,size=100m {disk} && {run} --resume && cp -r {disk}/out {kept}
    """
    found = subprocess.run([*alone, "sh", "-c", script], env=ENVIRONMENT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Error: [Errno 28] No space left on device" in found.stderr
    assert whole.n_done == 4000
    assert files(kept / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (("score", "a.h5", "--bundle", "models/photoz", "-o", "c"), "fsspec", "survey"),
        (("sky", "150.1", "2.2"), "astroquery", "sky"),
    ],
)
def test_without_its_packages_the_command_says_what_it_needs(command, package, extra):
    def photoz(*arguments):
        program = f"import sys; sys.modules[{package!r}] = None; from photoz_client.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True
        )

    refused = photoz(*command)
    expected = f"Error: photoz {command[0]} needs {package}: install it with pip install 'photoz[{extra}]'\n"
    assert (refused.returncode, refused.stderr) == (1, expected)
    assert photoz("evaluate", "--help").returncode == 0
