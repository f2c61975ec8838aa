"""A folder of results in which others have written: links, foreign files, changed and damaged parts, escapes."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from photoz.errors import InvalidDataset, InvalidInput
from photoz_survey.nz import TomographicBin, stack
from photoz_survey.parts import digest_of, to_parquet
from tests.survey.conftest import ENVIRONMENT, files, program

ESCAPES = "\x1b]0;owned\x07\x9b31m\x7f\nowned"
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]|^owned", re.MULTILINE)
PART = "done/part-0000001.parquet"


@pytest.fixture
def resume(score, write_cutouts, tmp_path):
    """Complete a run of three parts; return a function that resumes it in the same or another folder."""
    path = write_cutouts("a.h5", 90)
    score(path, rows_per_part=30, pdf="float32")
    return lambda output=tmp_path / "out": score(path, output=output, rows_per_part=30, pdf="float32", resume=True)


def moved_and_linked(path):
    """Move a file or folder away, and leave a link to it."""
    target = path.with_name(f"{path.name}.target")
    path.rename(target)
    path.symlink_to(target, target_is_directory=target.is_dir())
    return target


@pytest.mark.parametrize("name", ["", "done", "rejected", PART, "manifest.json"])
def test_links_are_refused_and_nothing_behind_them_is_removed(resume, tmp_path, name):
    if name == "rejected":
        (tmp_path / "out/rejected").mkdir()
    target = moved_and_linked(tmp_path / "out" / name if name else tmp_path / "out")
    if target.is_dir():
        (target / ".ssh").mkdir()
        (target / ".ssh/id").write_text("key")
        (target / ".part-0000001.parquet-abcdefgh").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in target.rglob("*")}
    with pytest.raises(InvalidInput, match=f"{re.escape(name) or 'out'} is a link: a run is in a folder without links"):
        resume()
    assert {path: path.is_file() and path.read_bytes() for path in target.rglob("*")} == before


def test_a_new_run_follows_no_links_either(score, write_cutouts, tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/done").symlink_to(tmp_path / "victim")
    with pytest.raises(InvalidInput, match="out/done is a link"):
        score(write_cutouts("a.h5", 2))
    assert list((tmp_path / "victim").iterdir()) == []


def test_only_what_the_writer_makes_is_removed(resume, tmp_path):
    done, kept = tmp_path / "out/done", []
    for name in (".git", ".part-0000009.parquet-abcdefgh", ".part-0000000.parquet-abcdefgh", ".profile-abcdefgh"):
        (done / name).mkdir()
        (done / name / "mine").write_text("mine")
        kept.append(done / name / "mine")
    (done / ".part-0000000.parquet-abcdefgh/part-0000000.parquet").write_text("half")
    (done / ".part-0000002.parquet-a_cdefg1").mkdir()
    (done / ".part-0000002.parquet-a_cdefg1/part-0000002.parquet").write_text("half")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/part-0000001.parquet").write_text("mine")
    (done / ".part-0000001.parquet-abcdefgh").symlink_to(tmp_path / "victim")
    resume()
    assert [path.read_text() for path in [*kept, tmp_path / "victim/part-0000001.parquet"]] == ["mine"] * 5
    assert not (done / ".part-0000000.parquet-abcdefgh/part-0000000.parquet").exists()
    assert not (done / ".part-0000002.parquet-a_cdefg1").exists()


def test_a_device_or_pipe_in_place_of_a_part_is_refused(resume, tmp_path):
    (tmp_path / "out" / PART).unlink()
    os.mkfifo(tmp_path / "out" / PART)
    with pytest.raises(InvalidInput, match=f"{PART} is neither a file nor a folder"):
        resume()


def changed(path, change):
    table = change(parquet.read_table(path))
    path.write_bytes(to_parquet([table]))


def test_a_part_that_was_changed_after_the_run_is_refused(resume, tmp_path):
    part, before = tmp_path / "out" / PART, (tmp_path / "out/manifest.json").read_bytes()
    changed(part, lambda table: table.set_column(table.schema.names.index("z_mean"), "z_mean", pa.array([9.0] * 30)))
    for call in (resume, lambda: stack(str(tmp_path / "out"), [TomographicBin("all", "z_mean>=0")])):
        with pytest.raises(InvalidInput, match=f"{PART} was changed after the run was completed: its sha256 differs"):
            call()
    assert (tmp_path / "out/manifest.json").read_bytes() == before
    part.unlink()
    resume()
    assert (tmp_path / "out/manifest.json").read_bytes() == before


NULLS = pa.nulls(30, pa.int32())
DAMAGES = {
    "garbage": lambda path: path.write_bytes(b"garbage"),
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:2000]),
    "no column": lambda path: changed(path, lambda table: table.drop_columns(["odds", "z_mean"])),
    "text": lambda path: changed(path, lambda table: table.set_column(6, "z_mean", pa.array([ESCAPES] * 30))),
    "no flags": lambda path: changed(path, lambda table: table.drop_columns("flags").append_column("flags", NULLS)),
    "rows": lambda path: changed(path, lambda table: table.slice(1)),
    "notes": lambda path: parquet.write_table(
        parquet.read_table(path).replace_schema_metadata({"photoz_notes": json.dumps({"a": [ESCAPES]})}), path
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_part_that_cannot_be_read_is_an_error_of_one_line(resume, tmp_path, damage):
    manifest = tmp_path / "out/manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"is_complete": False, "parts": []}))
    whole = files(tmp_path / "out")
    DAMAGES[damage](tmp_path / "out" / PART)
    with pytest.raises(InvalidDataset, match=f"{PART} or its rejected rows cannot be read; remove both to") as caught:
        resume()
    assert not OBEYED.search(str(caught.value))
    (tmp_path / "out" / PART).unlink()
    resume()
    assert files(tmp_path / "out") == whole


def test_distributions_of_a_damaged_run_are_an_error_of_one_line(resume, tmp_path):
    manifest, part = tmp_path / "out/manifest.json", tmp_path / "out" / PART
    text, whole = manifest.read_text(), part.read_bytes()
    (sha256,) = (one["sha256"] for one in json.loads(text)["parts"] if one["number"] == 1)
    for change in (
        lambda path: path.write_bytes(b"garbage"),
        lambda path: changed(path, lambda table: table.drop_columns("pdf").append_column("pdf", NULLS)),
        lambda path: changed(path, lambda table: table.drop_columns("pdf")),
    ):
        part.write_bytes(whole)
        change(part)
        manifest.write_text(text.replace(sha256, digest_of(part.read_bytes())))
        with pytest.raises((InvalidDataset, InvalidInput), match=r"cannot be read|no column pdf"):
            stack(str(tmp_path / "out"), [TomographicBin("all", "z_mean>=0")])


def test_a_bundle_whose_network_does_not_fit_its_card_is_an_error_of_one_line(bundle, write_cutouts, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "bundle")
    grid = bundle.card.grid.__class__(0.4, 10**12)
    card = bundle.card.model_copy(update={"grid": grid}).sealed(bundle.card.files)
    (copy / "card.json").write_text(card.model_dump_json())
    arguments = ("score", write_cutouts("a.h5", 2), "--bundle", copy, "-o", tmp_path / "out", "--workers", 1)
    done = subprocess.run(program(*arguments), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert (first[:6], last[:31]) == ("2 rows", "Error: the network gives {'pdf'")


def test_a_link_to_no_file_is_not_written_through(photoz, resume, tmp_path):
    (tmp_path / "nz.csv").symlink_to(tmp_path / "victim")
    status, _, err = photoz("nz", tmp_path / "out", "--bin", "z_mean>=0", "-o", tmp_path / "nz.csv")
    assert (status, "nz.csv exists: choose another name" in err, (tmp_path / "victim").exists()) == (2, True, False)


def test_commands_print_no_escapes_of_files(photoz, bundle, tmp_path, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(f"a{ESCAPES}.npz", images=np.ones((3, 8, 8, 4), np.float32), object_id=[ESCAPES, "b", "c"])
    np.savez(f"b{ESCAPES}.npz", images=np.ones((3, 8, 8, 4), np.float32), **{f"c{ESCAPES}": np.ones(3)})
    (tmp_path / f"c{ESCAPES}.npz").write_bytes(b"no archive")
    out = f"out{ESCAPES}"
    score = ("score", f"a{ESCAPES}.npz", f"b{ESCAPES}.npz", f"c{ESCAPES}.npz", "--bundle", bundle.path)
    runs = [
        (*score, "-o", out, "--pdf"),
        (*score, "-o", out, "--resume", "--json", "--pdf"),
        (*score, "-o", out),
        (*score[:3], "--bundle", bundle.path, "-o", out, "--resume"),
        (*score, "-o", f"missing{ESCAPES}", "--resume"),
        (*score, "-o", "other", "--columns", ESCAPES),
        (*score, "--estimate", 10),
        ("score", f"c{ESCAPES}.npz", "--bundle", bundle.path, "--estimate", 10),
        ("score", f"d{ESCAPES}.npz", "--bundle", bundle.path, "-o", "other"),
        ("score", f"a{ESCAPES}.npz", "--bundle", ESCAPES, "-o", "other"),
        ("nz", out, "--bin", f"{ESCAPES}:z_mean>=0", "-o", f"nz{ESCAPES}.npz"),
        ("nz", out, "--bin", f"{ESCAPES}:z_mean>=0", "-o", "nz.npz", "--json"),
        ("nz", out, "--bin", f"{ESCAPES}>=0", "-o", "nz.csv"),
        ("nz", out, "--bin", "z_mean>=0", "-o", f"nz{ESCAPES}"),
        ("nz", ESCAPES, "--bin", "z_mean>=0", "-o", "nz.csv"),
    ]
    for arguments in runs:
        _, printed, err = photoz(*arguments)
        assert printed + err, arguments
        assert not OBEYED.search(printed + err), (arguments, printed, err)
