"""`photoz sky`: from positions to cutouts, against an archive on this machine."""

import os
import shlex
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")


from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput
from photoz.io.reader import open_cutouts
from photoz_survey.sky.archive import ArchiveError, FileCache
from photoz_survey.sky.cutout_file import NOT_FOUND, write_cutouts
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.position import cut_out_position
from photoz_survey.sky.targets import Targets
from tests.running import ROOT
from tests.survey.loopback_archive import FWHM, frame_path


def test_a_list_becomes_cutouts(sky, archive, positions, tmp_path):
    status, out, err = sky("--list", positions)
    assert status == 0, err
    assert "some positions have no cutout: see" in err
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        images, columns = cutouts.images[:], dict(cutouts.columns)
        assert cutouts.spec.bands == tuple("ugriz")
    assert images.shape == (4, 64, 64, 5)
    assert columns["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(columns["ebv"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(columns["fwhm"], np.tile(FWHM, (4, 1)))
    assert columns["z_spec"].tolist() == [0.1] * 4
    expected = np.outer([10, 20, 30, 40], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), expected, rtol=0.005)  # the last one from two frames
    failed = (tmp_path / "cutouts.failed.csv").read_text().splitlines()
    assert failed == ["object_id,ra,dec,reason", f'far,10.0,10.0,"{NOT_FOUND}"']
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    assert archive.agents == {f"photoz/{__version__}"}
    assert not list(tmp_path.glob("*.parts"))


def test_faults_of_the_archive_cost_nothing(sky, archive, positions, tmp_path):
    faults = {"u": ["500"], "g": ["reset"], "r": ["cut", "cut"], "i": ["cut", "500", "reset"], "z": ["page", "slow"]}
    for band, found in faults.items():
        archive.faults[frame_path(band, 100)] = found
    archive.faults[frame_path("z", 101)] = ["cut"] * 10
    assert sky("--list", positions)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        images = cutouts.images[:]
    np.testing.assert_allclose(images[:3].sum(axis=(1, 2)), np.outer([10, 20, 30], [1, 2, 3, 4, 5]), rtol=0.005)
    assert np.isnan(images[3, ..., 4]).any()  # beyond the frame, and the next one was never whole
    assert not np.isnan(images[..., :4]).any()
    for path in map(frame_path, "ugriz", [100] * 5):  # it goes on where it broke off
        assert archive.sent[path] == len(archive.files[path])


def test_a_frame_that_is_missing_is_the_reason(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    del archive.files[frame_path("i", 100)]
    status, _, err = sky(ra, dec)
    assert status == 1
    assert "no cutout of 1 positions; the first: " in err
    assert "frame-i-000094-3-0100.fits.bz2: 404 Not Found" in err
    assert not (tmp_path / "cutouts.h5").exists()
    archive.files[frame_path("i", 100)] = archive.files[frame_path("r", 100)]
    assert sky(ra, dec)[0] == 0  # it is asked for again


def source_of(archive, folder):
    return SdssFrames(f"{archive.url}/sas", archive.url, FileCache(folder, 10**9))


def test_what_is_left_of_another_list_is_not_used(archive, tmp_path):
    source = source_of(archive, tmp_path / "frames")

    def start(galaxy):
        targets = Targets.of(*archive.galaxies[galaxy][:2])
        return write_cutouts(source.locate(targets), source, tmp_path / "cutouts.h5", workers=1)

    stopped = start(0)
    next(stopped)
    stopped.close()
    list(start(1))
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.images[0, ..., 0].sum() == pytest.approx(20, rel=0.005)


def test_frames_are_used_again_also_offline(sky, archive, positions, tmp_path):
    assert sky("--list", positions)[0] == 0
    asked = archive.asked.total()
    (tmp_path / "positions.csv").write_text(
        "ra,dec,run,rerun,camcol,field\n" + ",".join(map(str, archive.galaxies[1][:2])) + ",94,301,3,100\n"
    )
    status, _, err = sky("--list", positions, "--offline")
    assert status == 0, err
    assert archive.asked.total() == asked
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.images.shape == (1, 64, 64, 5)
        assert np.isnan(cutouts.columns["ebv"]).all()


def command(archive, tmp_path, *arguments):
    where = ["--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", tmp_path / "frames"]
    program = [sys.executable, "-c", "from photoz_client.cli import main; main()", "sky"]
    return [*program, *map(str, [*arguments, "-o", tmp_path / "cutouts.h5", *where, "--workers", 1])]


def content(path):
    """Return the datasets of an HDF5 file, whose own bytes have times in them."""
    with h5py.File(path) as file:
        return {name: file[name][()].tolist() if name == "object_id" else file[name][()].tobytes() for name in file}


@pytest.fixture
def many_fields(archive, tmp_path):
    """Positions in twelve fields, and the environment for the command."""
    for field in range(110, 134, 2):
        for band in "ugriz":
            archive.files[frame_path(band, field)] = archive.files[frame_path(band, 100)]
    rows = [f"{ra},{dec},0.1,94,301,3,{field}" for field in range(110, 134, 2) for ra, dec, _ in archive.galaxies[:3]]
    (tmp_path / "positions.csv").write_text("ra,dec,ebv,run,rerun,camcol,field\n" + "\n".join(rows) + "\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients/python")])}


@pytest.mark.slow
def test_a_killed_run_goes_on(archive, many_fields, tmp_path):
    run = command(archive, tmp_path, "--list", tmp_path / "positions.csv")
    rng, kills, ended = np.random.default_rng(0), 0, False
    while not ended:
        process = subprocess.Popen(run, env=many_fields, start_new_session=True, stderr=subprocess.DEVNULL)
        done = archive.asked.total()
        while archive.asked.total() < done + 3 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if not (ended := kills == 4):
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert process.returncode == 0
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(name for name in left if not name.startswith(("frame-", ".frame-"))) == [
        "cutouts.h5",
        "positions.csv",
    ]
    assert sum(archive.asked.values()) <= 12 * 5 + kills  # one was on its way at each kill
    whole = content(tmp_path / "cutouts.h5")
    subprocess.run(run, env=many_fields, check=True, capture_output=True)
    assert content(tmp_path / "cutouts.h5") == whole
    assert sum(archive.asked.values()) <= 12 * 5 + kills


@pytest.mark.slow
def test_a_full_disk_ends_a_run_that_goes_on(archive, many_fields, tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    alone = ["unshare", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    run = shlex.join(command(archive, disk, "--list", tmp_path / "positions.csv"))
    script = f"""
        mount -t tmpfs -o size=25m tmpfs {disk} || exit 3
        {run} && exit 4
        mount -o remount,size=200m {disk} && {run} && cp {disk}/cutouts.h5 {kept}
    """
    found = subprocess.run([*alone, "sh", "-c", script], env=many_fields, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Error: [Errno 28] No space left on device" in found.stderr
    assert sum(archive.asked.values()) <= 12 * 5 + 3  # what could not be written, in the job and those queued behind it
    with open_cutouts(kept / "cutouts.h5") as cutouts:
        fluxes = np.tile(np.outer([10, 20, 30], [1, 2, 3, 4, 5]), (12, 1))
        np.testing.assert_allclose(cutouts.images[:].sum(axis=(1, 2)), fluxes, rtol=0.005)


def test_a_position_is_cut_out_by_a_function_as_by_the_command(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    options = ("--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", str(tmp_path / "frames"))
    found = cut_out_position(ra, dec, options)
    assert sky(ra, dec)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        np.testing.assert_array_equal(found.images, cutouts.images[:])
        assert (found.spec, found.provenance) == (cutouts.spec, cutouts.provenance)
        np.testing.assert_equal(dict(found.columns), dict(cutouts.columns))
    with pytest.raises(InvalidDataset, match="no cutout of 1 positions; the first: no object of the catalogue"):
        cut_out_position(10.0, 10.0, options)
    with pytest.raises(InvalidInput, match="Invalid value for '--size'"):
        cut_out_position(ra, dec, ["--size", "1"])
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="Not a directory"):
        cut_out_position(ra, dec, [*options, "--cache", str(tmp_path / "file" / "cache")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected one of: RA and Dec in degrees, --list FILE, --sql QUERY"),
        (("150", "2", "--sql", "x"), "expected one of"),
        (("150",), "expected one of"),
        (("--lits", "x"), "'--lits' is not a valid float"),
        (
            ("1", "-2", "--catalogue", "http://127.0.0.1:9"),
            "http://127.0.0.1:9 gave no positions: Failed to establish a",
        ),
        (("150", "2", "--pdf"), "--result, --pdf and --json need --score"),
        (("150", "2", "--score", "x", "--size", "32"), "--size is that of the model"),
        (("150", "2", "--score", "x", "--result", "z.txt"), "z.txt should end in .csv"),
        (("400", "-2.5"), "expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 -2.5"),
    ],
)
def test_commands_that_are_refused(photoz, arguments, message):
    status, _, err = photoz("sky", *arguments)
    assert status in (1, 2)
    assert message in err
