"""Runs of `photoz sky` that are stopped, or whose archive is down."""

import subprocess
import sys

import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")

from photoz.io.reader import open_cutouts
from photoz_survey.sky.cut_out import open_source
from photoz_survey.sky.cutout_file import CutoutFile
from photoz_survey.sky.targets import Targets
from tests.survey.conftest import ENVIRONMENT
from tests.survey.loopback_archive import DEC, RA, SHAPE, draw, frame_bytes, frame_path, frame_wcs


def images_of(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:]


@pytest.fixture
def apart(archive, tmp_path):
    """A list of galaxies that are in fields of their own."""
    ra, dec, _ = archive.galaxies[0]
    for field in range(200, 208):
        wcs = frame_wcs(RA, DEC, 0.0, SHAPE)
        for number, band in enumerate("ugriz", 1):
            archive.files[frame_path(band, field)] = frame_bytes(
                number * draw(wcs, SHAPE, [(ra, dec, field)]), wcs, band, field
            )
    rows = [f"{field},{ra},{dec},0.1,94,301,3,{field}" for field in range(200, 208)]
    (tmp_path / "apart.csv").write_text("\n".join(["object_id,ra,dec,ebv,run,rerun,camcol,field", *rows]))
    return tmp_path / "apart.csv"


def frames_sent(archive):
    return [archive.sent[frame_path(band, field)] for field in range(200, 208) for band in "ugriz"]


def test_a_run_waits_while_a_host_is_down_and_ends_with_a_count_if_it_stays_down(sky, archive, apart, clock, tmp_path):
    down = f"{archive.url.removeprefix('http://')} cannot be reached: 503 'Service Unavailable': 'not now'"
    archive.faults[frame_path("i", 203)] = [lambda _: archive.faults.update({"": ["503"] * 40})]
    begin, (status, _, err) = clock.now, sky("--list", apart)
    assert (status, clock.now - begin > 60) == (0, True)
    assert f"{down}; 3 of 8 galaxies are done or have failed; trying again for up to 10 minutes\n" in err
    assert (err.count("cannot be reached"), err.count("8 of 8 have cutouts")) == (1, 1)
    assert frames_sent(archive) == [1] * 40
    first = (tmp_path / "cutouts.h5").read_bytes()
    (tmp_path / "cutouts.h5").unlink()
    archive.faults[frame_path("i", 203)] = [lambda _: archive.faults.update({"": ["503"] * 9999})]
    archive.sent.clear()
    status, _, err = sky("--list", apart, "--cache", tmp_path / "other")
    assert (status, err.splitlines()[-1]) == (
        1,
        f"Error: {down}; 3 of 8 galaxies are done or have failed: run the same command again to continue",
    )
    archive.faults.clear()
    assert "8 of 8 have cutouts" in sky("--list", apart, "--cache", tmp_path / "other")[2]
    assert frames_sent(archive) == [1] * 40
    assert (tmp_path / "cutouts.h5").read_bytes() == first


def test_a_host_that_never_answers_is_said_soon(photoz, archive, apart, clock, tmp_path, here):
    for source, address in (("ls-dr10", "http://127.0.0.1:9"), ("sdss", archive.url)):
        archive.faults[""] = ["503"] * 999
        given = ("--source", source, "--archive", address, "--cache", tmp_path / "cache", "-o", tmp_path / "x.h5")
        begin, (status, _, err) = clock.now, photoz("sky", "--list", apart, *given)
        assert (status, clock.now - begin < 15, "0 of 8 galaxies are done" in err) == (1, True, True)
        assert err.count("cannot be reached") == 1


def test_what_is_left_of_the_same_list_is_used_and_of_another_is_not(archive, tmp_path, here):
    source = open_source("sdss", f"{archive.url}/sas", archive.url, None, tmp_path, 1, False, False, 99, 1)
    first, second = (source.locate(Targets.of(*archive.galaxies[galaxy][:2])) for galaxy in (0, 1))
    output, parts = tmp_path / "cutouts.h5", []
    for expected in ([0, 0, 1], [1]):
        run = CutoutFile(first, source, output).write(first, workers=1)
        assert [next(run) for _ in expected] == expected
        run.close()
        parts.append([(path, path.stat().st_mtime_ns) for path in (tmp_path / "cutouts.h5.parts").iterdir()])
    assert parts[0] == parts[1]
    assert sum(CutoutFile(second, source, output).write(second, workers=1)) == 1
    assert images_of(output)[0, ..., 0].sum() == pytest.approx(20, rel=0.005)
    assert not (tmp_path / "cutouts.h5.parts").exists()


def test_a_file_that_was_replaced_or_removed_is_made_again(photoz, sky, positions, where, tmp_path):
    output = tmp_path / "cutouts.h5"
    for content in (None, b"something else"):
        assert "4 of 5 have cutouts" in sky("--list", positions)[2]
        assert len(images_of(output)) == 4
        output.unlink()
        if content:
            output.write_bytes(content)
    assert "exists: choose another name" in photoz("sky", "--list", positions, *where, "-o", output)[2]
    assert "4 of 5 have cutouts" in sky("--list", positions)[2]
    assert len(images_of(output)) == 4


def test_two_runs_do_not_write_the_same_file(sky, archive, positions, tmp_path):
    source = open_source("sdss", f"{archive.url}/sas", archive.url, None, tmp_path, 1, False, False, 99, 1)
    with CutoutFile(Targets.of(1, 2), source, tmp_path / "cutouts.h5").locked():
        status, _, err = sky("--list", positions)
    message = f"Error: another run writes {tmp_path / 'cutouts.h5'}: wait for its end, or choose another name\n"
    assert (status, message in err, archive.asked.total()) == (1, True, 0)
    assert not list(tmp_path.glob("*.parts"))
    assert sky("--list", positions)[0] == 0


def test_processes_that_cut_do_not_load_pandas():
    code = "import sys, photoz_survey.sky.cut_out; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0
