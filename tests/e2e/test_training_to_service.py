"""Train, serve and evaluate without code changes: another survey, the network `inception`, cutouts out of frames."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from photoz.images import SDSS_IMAGES
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from photoz_client import PhotozClient
from tests.e2e.rendered_frames import APERTURES, compare, draw, measure_cutouts, run, train, training
from training.catalogue import read_kcorrect
from training.imaging_surveys import read_survey
from training.sample import make_sample
from training.splits import random_split

pytestmark = pytest.mark.acceptance

N = 816  # galaxies in four fields


def check_service(data, bundle, start_service, home):
    with open_cutouts(data) as cutouts:
        images, z_spec, ebv = cutouts.images[:20], cutouts.column("z_spec")[:20], cutouts.column("ebv")[:20]
    with start_service(home, PHOTOZ_BUNDLE=bundle.path) as service, PhotozClient(service.url, timeout=120.0) as client:
        assert client.predict(images, ebv=ebv, pdf=True).pdf.shape == (20, bundle.card.grid.n_bins)
        assert client.evaluate(z_spec, images=images, ebv=ebv).n_galaxies == 20
        assert client.model().digest == bundle.card.digest


def test_another_survey_is_drawn_trained_served_and_evaluated(start_service, tmp_path, capsys):
    galaxies, bands, survey, data = read_kcorrect().head(120), "ugrizy", read_survey("lsst"), tmp_path / "mine.npz"
    columns = dict(zip("ugriz", galaxies.magnitudes.T, strict=True))
    columns |= {"y": columns["z"] - 0.1, "z_spec": galaxies.z_spec, "ebv": galaxies.ebv}
    pd.DataFrame(columns).to_csv(tmp_path / "catalogue.csv", index=False)
    drawn = ("--catalogue", tmp_path / "catalogue.csv", "--survey", "lsst", "--size", 20)
    run(training, "sample", tmp_path / "sample.h5", *drawn)
    with open_cutouts(tmp_path / "sample.h5") as cutouts:
        fwhm = np.median(cutouts.column("fwhm"), axis=0)
        arrays = {name: cutouts.column(name) for name in ("ebv", "z_spec", "object_id")}
        np.savez(data, images=cutouts.images[:], **arrays)
    np.testing.assert_allclose(fwhm, [survey.bands[band].fwhm for band in bands], rtol=0.1)
    options = ("--survey", "lsst", "--bands", bands, "--z-max", 0.6, "--n-bins", 90, "--batch-size", 16)
    bundle = train(data, tmp_path / "bundle", "--epochs", 1, *options)
    image, grid = bundle.card.image, bundle.card.grid
    assert (image.bands, image.pixel_scale, image.size, grid.z_max, grid.n_bins) == (tuple(bands), 0.2, 20, 0.6, 90)
    assert image.extinction_coefficients == tuple(survey.bands[band].extinction for band in bands)
    check_service(data, bundle, start_service, tmp_path)
    run(training, "evaluate", bundle.path, data, "-o", tmp_path, "--no-figures")
    assert "gradient-boosted trees, aperture fluxes of the cutouts" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


def test_the_documents_network_is_trained_and_served(start_service, tmp_path):
    make_sample(read_kcorrect().head(32), data := tmp_path / "sample.h5", SDSS_IMAGES, workers=1)
    options = ("--epochs", 1, "--architecture", "inception", "--batch-size", 8)
    bundle = train(data, tmp_path / "bundle", *options)
    assert bundle.card.architecture.parameters == 27_841_856
    check_service(data, bundle, start_service, tmp_path)


def test_redshifts_are_as_good_out_of_frames(bundle_path, tmp_path):
    pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")
    draw(replace(read_kcorrect().head(N), split=random_split(N, N // 2)), tmp_path)
    means = []
    for kind in ("drawn", "cut"):
        with open_cutouts(tmp_path / f"{kind}.h5") as cutouts:
            means.append(cutouts.images[:].mean(axis=0))
    # A quarter of a pixel, or a twentieth of the flux, would differ more; networks do not notice either.
    drawn, cut = means
    assert (np.abs(cut - drawn).max(axis=(0, 1)) < 0.05 * drawn.max(axis=(0, 1))).all()
    measured = measure_cutouts(tmp_path)
    np.testing.assert_allclose(measured["noise of a pixel"], 0.87, atol=0.02)  # docs/sky.md
    np.testing.assert_allclose(measured["flux"], 1.0, atol=0.01)
    assert measured[APERTURES] < 1.1
    shipped = ModelBundle.load(bundle_path)
    assert compare(tmp_path, shipped, shipped)["sigma_mad"]["ratio"][0] < 1.1
    card = train(tmp_path / "cut.h5", tmp_path / "cut", "--epochs", 2, "--batch-size", 16).card
    assert card.image == SDSS_IMAGES
    assert (card.training.n_train + card.training.n_validation, card.test.n_galaxies) == (N // 2, N // 2)
