"""`photoz sky`: from positions to cutouts and redshifts, against an archive on this machine."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")

from astropy.table import Table
from astroquery.sdss import conf

from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput
from photoz.images import SDSS_IMAGES
from photoz.inference.predictor import Predictor
from photoz.io.reader import open_cutouts
from photoz_survey.sky.archive import ArchiveError, FileCache
from photoz_survey.sky.cut_out import open_source
from photoz_survey.sky.cutout_file import NOT_FOUND, write_cutouts
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import LegacySurveys
from photoz_survey.sky.position import cut_out_position
from photoz_survey.sky.targets import Targets
from tests.survey.loopback_archive import FWHM, frame_path
from tests.toys import toy_batch, write_toy_bundle


def images_of(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:]


def test_a_list_becomes_cutouts(photoz, where, archive, positions, tmp_path):
    output, failed = tmp_path / "cutouts.h5", tmp_path / "cutouts.failed.csv"
    archive.catalogue[1] = (*archive.galaxies[1][:2], 101, 0.3793, 0.2751)  # its cutout begins in the frame before
    found = photoz("sky", "--list", positions, *where, "-o", output, "--workers", 1, "--rate", 1000)
    unknown = "the column redshift is z_spec\nE(B-V) of 1 of 5 galaxies is unknown\n"
    assert found == (0, "", f"{unknown}some positions have no cutout: see {failed}\n")
    with open_cutouts(output) as cutouts:
        images, columns = cutouts.images[:], dict(cutouts.columns)
        assert cutouts.spec.bands == tuple("ugriz")
    assert images.shape == (4, 64, 64, 5)
    assert columns["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(columns["ebv"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(columns["fwhm"], np.tile(FWHM, (4, 1)))
    assert columns["z_spec"].tolist() == [0.1] * 4
    fluxes = np.outer([10, 20, 30, 40], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), fluxes, rtol=0.005)  # the second and last from two frames
    assert failed.read_text().splitlines() == ["object_id,ra,dec,reason", f'far,10.0,10.0,"{NOT_FOUND}"']
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    assert archive.agents == {f"photoz/{__version__}"}
    assert not list(tmp_path.glob("*.parts"))
    content = output.read_bytes()
    status, _, err = photoz("sky", "--list", positions, *where, "-o", output)
    message = f"Error: {output} exists: choose another name, or replace it with --overwrite"
    assert (status, err.splitlines()[-1], output.read_bytes()) == (2, message, content)


def test_a_frame_that_is_missing_is_the_reason_unless_it_is_a_neighbour(
    photoz, where, sky, archive, positions, tmp_path
):
    del archive.files[frame_path("i", 100)], archive.files[frame_path("z", 101)]
    status, _, err = sky("--list", positions)
    assert (status, (tmp_path / "cutouts.h5").exists()) == (1, False)
    assert "Error: no cutout of 5 positions; the first: http://" in err
    assert err.endswith("frame-i-000094-3-0100.fits.bz2: 404 Not Found\n")
    archive.files[frame_path("i", 100)] = archive.files[frame_path("r", 100)]
    assert sky("--list", positions)[0] == 0  # it is asked for again
    beyond = np.isnan(images_of(tmp_path / "cutouts.h5")).any(axis=(1, 2))
    np.testing.assert_array_equal(beyond, [[False] * 5] * 3 + [[False] * 4 + [True]])
    asked, (ra, dec, _) = archive.asked.total(), archive.galaxies[1]
    positions.write_text(f"ra,dec,run,rerun,camcol,field\n{ra},{dec},94,301,3,100\n")
    assert sky("--list", positions, "--offline") == (0, "", "E(B-V) of 1 of 1 galaxy is unknown\n")
    assert (archive.asked.total(), len(images_of(tmp_path / "cutouts.h5"))) == (asked, 1)
    (tmp_path / "cutouts.h5.parts").mkdir()  # a run that replaces the file was stopped: it is continued
    assert (
        photoz("sky", "--list", positions, "--offline", *where, "-o", tmp_path / "cutouts.h5", "--workers", 1)[0] == 0
    )


def test_what_is_left_of_the_same_list_is_used_and_of_another_is_not(archive, tmp_path, here):
    source = SdssFrames(f"{archive.url}/sas", archive.url, FileCache(tmp_path / "frames", 10**9))
    first, second = (source.locate(Targets.of(*archive.galaxies[galaxy][:2])) for galaxy in (0, 1))
    output, parts = tmp_path / "cutouts.h5", []
    for _ in range(2):
        run = write_cutouts(first, source, output, workers=1)
        assert next(run) == 1
        run.close()
        parts.append([(path, path.stat().st_mtime_ns) for path in (tmp_path / "cutouts.h5.parts").iterdir()])
    assert parts[0] == parts[1]
    assert list(write_cutouts(second, source, output, workers=1)) == [1]
    assert images_of(output)[0, ..., 0].sum() == pytest.approx(20, rel=0.005)
    assert not (tmp_path / "cutouts.h5.parts").exists()


def test_options_describe_the_archive():
    given = {"archive": None, "catalogue": None, "size": None, "cache": Path("c"), "cache_gb": 0.5, "rate": 10.0}
    open_ = partial(open_source, workers=2, **given, offline=False)
    files, image = FileCache(Path("c"), 500_000_000, interval=0.2), replace(SDSS_IMAGES, size=32)
    assert open_("sdss") == SdssFrames(conf.sas_baseurl, conf.skyserver_baseurl, files)
    offline = SdssFrames("http://a", None, replace(files, offline=True), image)
    assert open_("sdss", offline=True, archive="http://a", catalogue="http://b", size=32) == offline
    address = "https://www.legacysurvey.org/viewer/fits-cutout"
    assert open_("ls-dr9") == LegacySurveys.of(address, "ls-dr9", files)


def test_a_position_is_cut_out_by_a_function_as_by_the_command(sky, archive, where, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    found = cut_out_position(ra, dec, where)
    assert sky(ra, dec)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        expected = (cutouts.images[:], cutouts.spec, cutouts.provenance, dict(cutouts.columns))
    np.testing.assert_equal((found.images, found.spec, found.provenance, dict(found.columns)), expected)
    for at, options, error, message in [
        (10.0, (), InvalidDataset, "no cutout of 1 position: no object of the catalogue"),
        (ra, ("--archive", archive.url, "--cache", str(tmp_path)), InvalidDataset, "position: .* 404 Not Found"),
        (ra, ("--size", "1"), InvalidInput, "Invalid value for '--size'"),
        (ra, ("--cache", str(tmp_path / "cutouts.h5/cache")), ArchiveError, "Not a directory"),
    ]:
        with pytest.raises(error, match=message):
            cut_out_position(at, dec, (*where, *options))


def test_commands_that_are_refused(photoz):
    for arguments, message in [
        ("", "expected one of: RA and Dec in degrees, --list FILE, --sql QUERY"),
        ("--sql x --list y", "expected one of"),
        ("150", "expected one of"),
        ("--lits x", "'--lits' is not a valid float"),
        ("150 2 --pdf", "--result, --pdf and --json need --score"),
        ("150 2 --score x --size 32", "--size is that of the model"),
        ("150 2 --score x --result z.txt", "z.txt should end in .csv"),
        ("400 -2.5", "expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 -2.5"),
        ("1 -2 --catalogue http://127.0.0.1:9", "9 gave no positions: Failed to establish a new connection"),
    ]:
        status, _, err = photoz("sky", *arguments.split())
        assert (status in (1, 2), message in err) == (True, True), arguments


def test_redshifts_by_a_bundle(sky, positions, tmp_path):
    bundle = write_toy_bundle(tmp_path, spec=SDSS_IMAGES, takes_ebv=True)
    options = ("--list", positions, "--score", bundle.path)
    status, out, _ = sky(*options)
    assert (status, [line.split()[0] for line in out.splitlines()]) == (0, ["object_id", "0", "1", "2", "3"])
    assert sky(*options, "--pdf", "--result", tmp_path / "z.fits")[:2] == (0, "")
    assert sky(*options, "--result", tmp_path / "z.qp.hdf5")[0] == 0
    record = json.loads(sky(*options, "--json")[1])
    table = Table.read(tmp_path / "z.fits")
    batch = toy_batch(images_of(tmp_path / "cutouts.h5"), bundle.card, np.full(4, 0.1))
    expected = Predictor.load(bundle).predict(batch)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    np.testing.assert_allclose(table["pdf"], expected.pdf, rtol=1e-5)
    np.testing.assert_allclose(table["z_mean"], expected.z_mean)
    np.testing.assert_allclose(record["z_mean"], expected.z_mean)
    assert "pdf" not in record


def test_redshifts_by_a_service(sky, archive, positions, service_url, card, tmp_path):
    assert sky("--list", positions, "--score", service_url, "--pdf", "--result", tmp_path / "z.fits")[0] == 0
    table = Table.read(tmp_path / "z.fits")
    np.testing.assert_allclose(table["ra"], [ra for ra, _, _ in archive.galaxies], atol=1e-6)
    np.testing.assert_allclose(table["pdf"] @ card.grid.centres, table["z_mean"], atol=1e-4)


def test_a_model_of_another_survey_is_refused_before_anything_is_fetched(sky, archive, positions, bundle):
    error = sky("--list", positions, "--score", bundle.path, "--source", "ls-dr9")[2]
    assert "trained on another g band than that of layer ls-dr9 of the Legacy Surveys: A/E(B-V) is 3.793 there" in error
    assert not archive.asked
