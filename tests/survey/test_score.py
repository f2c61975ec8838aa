"""`photoz score`: every row once, with the Predictor's own values, whatever happens on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pyarrow import parquet

from photoz.errors import InvalidInput
from photoz.flags import Flag
from photoz.inference.predictor import Predictor
from photoz.pdf import quantile
from photoz_survey.inputs import Chunk, Segment
from photoz_survey.manifest import Manifest, ScoreOptions, versions
from photoz_survey.run import Run
from photoz_survey.scoring import Scorer
from photoz_survey.terminal import LINE_EVERY, progress, stop_at_sigterm
from photoz_survey.workers import ONE_THREAD
from tests.survey.conftest import ENVIRONMENT, files, program, rows
from tests.toys import GRIZ, galaxies, toy_batch


def test_estimates_are_those_of_the_predictor(score, bundle, write_cutouts, tmp_path):
    first, second = galaxies(GRIZ, 300, seed=2), galaxies(GRIZ, 5, seed=3)
    z_spec, names = np.linspace(0.1, 0.5, 300), [f"galaxy {row}" for row in range(300)]
    a = write_cutouts("a.h5", 300, images=first, z_spec=z_spec, object_id=names, run=np.arange(300))
    b = write_cutouts("b.h5", 5, images=second, run=np.arange(5))
    summary = score(a, b, rows_per_part=256, pdf="float32", quantiles=(0.25,), columns=("run",))
    assert (summary.n_done, summary.n_rejected) == (305, 0)
    found = rows(tmp_path / "out")
    places = [(str(a), row) for row in range(300)] + [(str(b), row) for row in range(5)]
    assert [(row["file"], row["row"]) for row in found] == places
    expected = Predictor.load(bundle).predict(toy_batch(first[:256], bundle.card, np.linspace(0, 0.2, 300)[:256]))
    columns = dict(expected.columns()) | {"object_id": names[:256], "pdf": expected.pdf.astype(np.float32)}
    columns["z_q25"] = quantile(expected.pdf, bundle.card.grid, 0.25)
    for name, values in columns.items():
        np.testing.assert_array_equal([row[name] for row in found[:256]], values)
    some = [(row["object_id"], row["run"], row["z_spec"], row["ra"]) for row in found[298:302]]
    expected = [("galaxy 298", 298, z_spec[298]), ("galaxy 299", 299, 0.5), ("0", 0, None), ("1", 1, None)]
    assert some == [(*values, None) for values in expected]
    metadata = parquet.read_schema(tmp_path / "out/done/part-0000000.parquet").metadata
    assert (metadata[b"model"], json.loads(metadata[b"z_edges"])) == (b"toy 1", bundle.card.grid.edges.tolist())


def test_cutouts_of_another_scale_are_resampled_and_flagged(score, write_cutouts, tmp_path):
    fine = galaxies(GRIZ, 3).repeat(2, axis=1).repeat(2, axis=2)
    a, b = write_cutouts("a.h5", 3, images=fine), write_cutouts("b.h5", 2)
    with h5py.File(a, "a") as file:
        file.attrs["pixel_scale"] = GRIZ.pixel_scale / 2
    score(a, b, resample=True)
    assert [bool(row["flags"] & Flag.RESAMPLED) for row in rows(tmp_path / "out")] == [True] * 3 + [False] * 2


def test_galaxies_of_a_catalogue_are_cut_out_of_large_images(score, tmp_path):
    folder, wcs, catalogue = tmp_path / "field", WCS(naxis=2), tmp_path / "stars.csv"
    folder.mkdir()
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [50, 50]
    wcs.wcs.cdelt = [-GRIZ.pixel_scale / 3600, GRIZ.pixel_scale / 3600]
    for band, pixels in zip("griz", np.random.default_rng(0).normal(1, 1, (4, 99, 99)), strict=True):
        image = fits.PrimaryHDU(pixels.astype(np.float32), wcs.to_header())
        image.header.update({"FILTER": band, "BUNIT": "nanomaggy"})
        image.writeto(folder / f"{band}.fits")
    catalogue.write_text("objid,ra,dec,z\n11,150,2,0.1\n12,150,2.001,0.2\n13,151,2,0.3\n")
    summary = score(folder, at=catalogue)
    assert (summary.n_done, summary.n_rejected) == (2, 1)
    assert [(row["object_id"], row["z_spec"]) for row in rows(tmp_path / "out")] == [(11, 0.1), (12, 0.2)]
    [rejected] = rows(tmp_path / "out", "rejected")
    assert (rejected["object_id"], "no finite pixel" in rejected["reason"]) == ("13", True)
    score(folder, at=catalogue, resume=True)


def test_integer_names_stay_integers_if_all_inputs_have_them(score, write_cutouts, tmp_path):
    ids = 1237648720693755918 + np.arange(3)
    a, b = write_cutouts("a.h5", 3, OBJID=ids), write_cutouts("b.h5", 2)
    c = write_cutouts("c.h5", 2, images=np.full((2, *GRIZ.shape), np.nan))
    d = write_cutouts("d.h5", 1, object_id=["e"])
    for name, paths, expected in (("int", (a, b, c), [*ids, 0, 1]), ("text", (a, d), [*map(str, ids), "e"])):
        score(*paths, output=tmp_path / name, rows_per_part=3)
        assert [row["object_id"] for row in rows(tmp_path / name)] == expected
    assert {parquet.read_schema(path).field("object_id").type for path in tmp_path.glob("int/done/*")} == {pa.int64()}
    (tmp_path / "int/done/part-0000000.parquet").unlink()
    manifest = tmp_path / "int/manifest.json"
    manifest.write_text(manifest.read_text().replace('"integer_ids": true,', ""))  # as an older version wrote it
    score(a, b, c, output=tmp_path / "int", rows_per_part=3, resume=True)
    schema = parquet.read_schema(tmp_path / "int/done/part-0000000.parquet")
    assert schema.field("object_id").type == pa.string()


def test_bad_rows_and_files_are_rejected_with_the_reason(score, write_cutouts, tmp_path):
    images, ebv, broken = galaxies(GRIZ, 300), np.full(300, 0.1), tmp_path / "broken.h5"
    images[7], images[8], ebv[9] = np.nan, 3e38, -1.0
    bad, without = write_cutouts("a.h5", 300, images=images, ebv=ebv, run=ebv), write_cutouts("c.h5", 2)
    broken.write_bytes(b"no HDF5")
    summary = score(bad, broken, without, rows_per_part=300, columns=("run",))
    assert (summary.n_done, summary.n_rejected) == (297, 6)
    rejected = {tuple(row.values())[:3]: row["reason"] for row in rows(tmp_path / "out", "rejected")}
    for key, reason in {
        (str(bad), 7, "7"): "the cutout has no finite pixel",
        (str(bad), 8, "8"): "the pixel values overflow the network: mask such pixels with NaN",
        (str(bad), 9, "9"): "expected 0 <= ebv <= 10 mag, got -1 for the cutout",
        (str(broken), None, ""): str(broken),
        (str(without), 0, "0"): "expected a column 'run'; there are ebv",
        (str(without), 1, "1"): "expected a column 'run'; there are ebv",
    }.items():
        assert reason in rejected[key]
    assert {row["row"] for row in rows(tmp_path / "out")} == set(range(300)) - {7, 8, 9}
    schema = parquet.read_schema(tmp_path / "out/done/part-0000001.parquet")  # it has no rows
    assert schema.names[:7] == ["file", "row", "object_id", "ra", "dec", "z_spec", "run"]
    assert [str(schema.field(name).type) for name in ("file", "row", "flags")] == ["string", "int64", "int32"]


def test_only_what_is_missing_is_scored_again(score, write_cutouts, tmp_path):
    path, out = write_cutouts("a.h5", 100), tmp_path / "out"
    score(path, rows_per_part=30)
    assert {os.environ[name] for name in ONE_THREAD} == {"1"}
    before, kept = files(out), (out / "done/part-0000001.parquet").stat().st_mtime_ns
    (out / "done/part-0000002.parquet").unlink()
    (out / "done/.part-0000002.parquet-x").mkdir()  # left by a process that was killed
    with pytest.raises(InvalidInput, match="holds a run already: give --resume"):
        score(path, rows_per_part=30)
    score(path, rows_per_part=30, resume=True)
    assert files(out) == before
    assert not (out / "done/.part-0000002.parquet-x").exists()
    assert (out / "done/part-0000001.parquet").stat().st_mtime_ns == kept
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text())
    assert (manifest.is_complete, manifest.versions) == (True, versions())
    parts = [(part.number, part.n_done, part.n_rejected) for part in manifest.parts]
    assert parts == [(0, 30, 0), (1, 30, 0), (2, 30, 0), (3, 10, 0)]
    (out / "manifest.json").write_text('{"plan": 1}')
    with pytest.raises(InvalidInput, match=r"out/manifest\.json is not a manifest: plan: Input should be an object"):
        score(path, resume=True)


def test_what_has_changed_is_noticed(score, bundle, make_toy_bundle, write_cutouts, tmp_path):
    a, b = write_cutouts("a.h5", 10), write_cutouts("b.h5", 1)

    def check(message, *paths, **options):
        with pytest.raises(InvalidInput, match=message):
            score(*paths, resume=True, **options)

    check(r"holds no manifest.json: leave out --resume", a)
    score(a)
    plan = Run.begin([str(a)], bundle.path, ScoreOptions(), str(tmp_path / "out"), resume=True).plan
    with pytest.raises(InvalidInput, match="expected the bundle of toy 1, got another one at "):
        Scorer(plan, make_toy_bundle())
    check(r"the run was begun with ebv = None, got 0\.1", a, ebv=0.1)
    check(r"1 input added since the run was begun, such as .*b\.h5", a, b)
    check(r"1 input missing, such as .*a\.h5", b)
    write_cutouts("a.h5", 10, seed=5)
    check(r"a\.h5 has changed since the run was begun", a)
    with pytest.raises(InvalidInput, match=r"a\.h5 has changed since the run was begun"):
        Scorer(plan, bundle).score(Chunk(0, (Segment(0, 0, 10),)))


def test_a_summary_compares_the_estimates_with_those_of_the_card(photoz, bundle, write_cutouts, tmp_path):
    images = galaxies(GRIZ, 100)
    images[0] = np.nan
    path = write_cutouts("a.h5", 100, images=images, ebv=np.where(np.arange(100) < 4, np.nan, 0.1))
    options = ("score", path, "--bundle", bundle.path, "-o", tmp_path / "out", "--rows-per-part", 60)
    status, out, err = photoz(*options, "--workers", 1)
    assert (status, err) == (0, "100 rows of 1 file; 2 of 2 parts to score\n")
    found = rows(tmp_path / "out")
    fractions = [np.mean([row["z_mean"] <= edge for row in found]) for edge in (0.3044, 0.4)]
    difference = max(abs(fractions[0] - 0.5), abs(fractions[1] - 1.0))
    status, record, err = photoz(*options, "--resume", "--json")
    assert (status, err) == (0, "100 rows of 1 file; 0 of 2 parts to score\n")
    record = json.loads(record)
    assert (record["n_done"], record["n_rejected"], record["flags"]["EBV_ASSUMED"]) == (99, 1, 3)
    assert record["differences"] == {"z_mean": pytest.approx(difference)}
    assert "assumed: the bands are g,r,i,z in this order" in record["notes"]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"] == record["notes"]
    write_cutouts("b.h5", 2, images=np.full_like(images[:2], np.nan))
    nothing = photoz("score", path.with_name("b.h5"), "--bundle", bundle.path, "-o", tmp_path / "none", "--workers", 1)
    assert nothing[0] == 1
    assert "Error: no row has an estimate: the cutout has no finite pixel" in nothing[2]
    assert out.splitlines() == [
        "99 rows with estimates, 1 rejected",
        *(f"  {name}: {count} ({count / 99:.1%})" for name, count in record["flags"].items()),
        *(f"  {note} (1 file)" for note in record["notes"]),
        "largest difference from the distributions of the galaxies in the model card:",
        f"  z_mean: {difference:.3f}",
    ]


def test_a_terminal_shows_progress_in_a_bar_or_lines_and_how_to_resume(capsys, monkeypatch):
    clock = iter([0.0, 29.0, 30.0, 59.0, 80.0])
    monkeypatch.setattr("photoz_survey.terminal.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("photoz_survey.terminal.LINE_EVERY", LINE_EVERY)
    stop_at_sigterm("continue with --resume")
    with progress(4000, "rows") as advance:
        for _ in range(4):
            advance(600)
    with pytest.raises(SystemExit) as stopped:
        signal.raise_signal(signal.SIGTERM)
    lines = ["1,200 of 4,000 rows, 40.0 rows/s, 70 s left", "2,400 of 4,000 rows, 30.0 rows/s, 53 s left"]
    assert capsys.readouterr().err.splitlines() == [*lines, "stopped by SIGTERM; continue with --resume"]
    assert stopped.value.code == 143
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(4000, "rows") as advance:
        advance(4000)
    assert "4000/4000 " in capsys.readouterr().err


@pytest.mark.acceptance
@pytest.mark.parametrize(("end", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_run_that_was_stopped_is_resumed(bundle, write_cutouts, tmp_path, score, end, code):
    path, done = write_cutouts("a.h5", 4000), tmp_path / "out/done"
    options = ("--bundle", bundle.path, "-o", tmp_path / "out", "--rows-per-part", 50, "--workers", 1)
    command = program("score", path, *options)
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while len(list(done.glob("part-*"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(end)
    process.communicate()
    assert (process.returncode, 3 <= len(list(done.glob("part-*"))) < 80) == (code, True)
    subprocess.run([*command, "--resume"], env=ENVIRONMENT, check=True, capture_output=True)
    score(path, output=tmp_path / "whole", rows_per_part=50)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_estimate_says_what_rows_take_and_writes_nothing(photoz, score, bundle, write_cutouts, tmp_path, monkeypatch):
    path = write_cutouts("a.h5", 3000)
    score(path, rows_per_part=2048)
    written = (tmp_path / "out/done/part-0000000.parquet").stat().st_size / 2048
    clock = iter([5.0, 9.0])
    monkeypatch.setattr("photoz_survey.run.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    read = path.stat().st_size / 3000
    lines = [
        "on one core: 512 rows/s, of 2,048 rows",
        f"for each row: {read:,.0f} bytes to read, {written:,.0f} to write",
        "1,000,000 rows:",
        f"  {read / 1e3:,.1f} GB to read; if they are not local, {read * 512 * 8e-9:,.2f} Gbit/s for each core",
        f"  {written / 1e3:,.1f} GB to write, in 123 parts",
        "  0.5 core hours",
        "  about 738 requests of an object store, if each part has an input of its own\n",
    ]
    assert photoz("score", path, "--bundle", bundle.path, "--estimate", "1000000") == (0, "\n".join(lines), "")


def test_an_estimate_without_rows_or_a_run_without_an_output_is_refused(photoz, bundle, write_cutouts, tmp_path):
    path, broken = write_cutouts("a.h5", 2, images=np.full((2, *GRIZ.shape), np.nan)), tmp_path / "b.h5"
    broken.touch()
    for arguments, status, message in [
        ((path,), 2, "Error: Missing option '-o' / '--output'."),
        ((path, "--estimate", "9", "--json"), 2, "Error: --json is for the summary of a run: leave out --estimate"),
        ((path, "--estimate", "9"), 1, f"Error: no row of {path} has estimates: the cutout has no finite pixel"),
        ((broken, "--estimate", "9"), 1, "Error: no input can be read: "),
        ((tmp_path / "none.h5", "--estimate", "9"), 1, f"Error: no file of cutouts at {tmp_path / 'none.h5'}"),
    ]:
        found, _, err = photoz("score", *arguments, "--bundle", bundle.path)
        assert (found, err.splitlines()[-1][: len(message)]) == (status, message)


def test_without_its_packages_the_command_says_what_it_needs(photoz, monkeypatch):
    commands = [("fsspec", "survey", "score", "a --bundle models -o c"), ("astroquery", "sky", "sky", "150.1 2.2")]
    for package, extra, name, arguments in commands:
        for module in list(sys.modules):
            if re.match(rf"(photoz_survey|{package})(\.|$)", module):
                monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
        expected = f"Error: photoz {name} needs {package}: install it with pip install 'photoz[{extra}]'\n"
        assert photoz(name, *arguments.split()) == (1, "", expected)
        monkeypatch.undo()
