"""`photoz sky --score`: redshifts of cutouts by a bundle or a service."""

import json
import shlex

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from astropy.table import Table

from photoz.images import SDSS_IMAGES
from photoz.inference.predictor import Predictor
from photoz.io.reader import open_cutouts
from photoz_survey.sky.command import sky as sky_command
from tests.running import ROOT
from tests.toys import toy_batch, write_toy_bundle


@pytest.fixture(scope="session")
def sdss_bundle(tmp_path_factory):
    return write_toy_bundle(tmp_path_factory.mktemp("sdss"), spec=SDSS_IMAGES, takes_ebv=True)


def test_redshifts_by_a_bundle(sky, archive, positions, sdss_bundle, tmp_path):
    status, out, err = sky("--list", positions, "--score", sdss_bundle.path)
    assert status == 0, err
    assert out.splitlines()[0].split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["0", "1", "2", "3"]
    assert sky("--list", positions, "--score", sdss_bundle.path, "--pdf", "--result", tmp_path / "z.fits")[0] == 0
    assert sky("--list", positions, "--score", sdss_bundle.path, "--result", tmp_path / "z.qp.hdf5")[0] == 0
    table = Table.read(tmp_path / "z.fits")
    assert table["pdf"].shape == (4, sdss_bundle.card.grid.n_bins)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    batch = toy_batch(open_images(tmp_path / "cutouts.h5"), sdss_bundle.card, np.full(4, 0.1))
    np.testing.assert_allclose(table["z_mean"], Predictor.load(sdss_bundle).predict(batch).z_mean)


@pytest.mark.e2e
def test_a_list_becomes_a_table_of_redshifts_by_a_service(sky, archive, positions, service_url, card, tmp_path):
    arguments = ("--list", positions, "--score", service_url, "--pdf", "--result", tmp_path / "z.fits")
    status, _, err = sky(*arguments)
    assert status == 0, err
    table = Table.read(tmp_path / "z.fits")
    assert table["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(table["ra"], [ra for ra, _, _ in archive.galaxies], atol=1e-6)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    np.testing.assert_allclose(table["pdf"].sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(table["pdf"] @ card.grid.centres, table["z_mean"], atol=1e-4)


def test_examples_of_the_help_run(sky, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    for example in sky_command.examples:
        status, out, err = sky(*shlex.split(example)[2:])
        assert (status, out) == (0, ""), err
    (line,) = (tmp_path / "redshifts.csv").read_text().splitlines()[1:]
    status, out, _ = sky("150.1", "2.2", "--score", "models/photoz", "--json")
    assert json.loads(out)["z_mean"] == [float(line.split(",")[4])]


def open_images(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:]


def test_a_model_of_another_survey_is_refused_before_anything_is_fetched(sky, archive, positions, bundle):
    status, _, err = sky("--list", positions, "--score", bundle.path, "--source", "ls-dr9")
    assert status == 1
    assert "trained on another g band than that of layer ls-dr9 of the Legacy Surveys: A/E(B-V) is 3.793 there" in err
    assert not archive.asked
