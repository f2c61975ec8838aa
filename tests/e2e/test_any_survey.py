"""Train, serve and evaluate without code changes: another survey, and the document's network."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from photoz_client import PhotozClient
from tests.running import ROOT
from training.catalogue import read_kcorrect
from training.imaging_surveys import read_survey
from training.sample import make_sample

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def run_training(command, *arguments):
    program = [sys.executable, "-m", "training", command, *map(str, arguments)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train(folder, data, *options):
    paths = ("--data", data, "--bundle", folder / "bundle", "--run", folder / "run", "--no-figures")
    run_training("train", "--epochs", 1, *paths, *options)
    return folder / "bundle"


def check_service(data, bundle, start_service, home):
    with open_cutouts(data) as cutouts:
        images, z_spec, ebv = cutouts.images[:20], cutouts.column("z_spec")[:20], cutouts.column("ebv")[:20]
    card = ModelBundle.load(bundle).card
    with start_service(home, PHOTOZ_BUNDLE=bundle) as service, PhotozClient(service.url) as client:
        predicted = client.predict(images, ebv=ebv, pdf=True)
        assert predicted.pdf.shape == (20, card.grid.n_bins)
        assert ((predicted.z_lo68 <= predicted.z_hi68) & (predicted.z_hi68 <= card.grid.z_max + 1e-9)).all()
        assert client.evaluate(z_spec, images=images, ebv=ebv).n_galaxies == 20
        assert client.model().digest == card.digest


def test_another_survey_is_trained_served_and_evaluated(start_service, tmp_path):
    spec, data = ImageSpec(size=23, bands="griz"), tmp_path / "griz.npz"
    make_sample(read_kcorrect(spec.bands).head(250), tmp_path / "sample.h5", spec, workers=1)
    with open_cutouts(tmp_path / "sample.h5") as cutouts:
        columns = {name: cutouts.column(name) for name in ("ebv", "z_spec", "object_id")}
        np.savez(data, images=cutouts.images[:], **columns)
    bundle = train(tmp_path, data, "--z-max", 0.6, "--n-bins", 90, "--bands", "griz")
    card = ModelBundle.load(bundle).card
    assert card.image.shape == (23, 23, 4)
    assert (card.grid.z_max, card.grid.n_bins) == (0.6, 90)
    check_service(data, bundle, start_service, tmp_path)
    output = run_training("evaluate", bundle, data, "-o", tmp_path, "--no-figures")
    assert "gradient-boosted trees, aperture fluxes of the cutouts" in output
    assert (tmp_path / "report.html").is_file()


def catalogue_of(folder, bands):
    """Write SDSS galaxies as a file of magnitudes; a band y is 0.1 mag brighter than z."""
    galaxies = read_kcorrect().head(120)
    columns = dict(zip("ugriz", galaxies.magnitudes.T, strict=True))
    columns["y"] = columns["z"] - 0.1
    frame = pd.DataFrame({band: columns[band] for band in bands})
    frame.assign(z_spec=galaxies.z_spec, ebv=galaxies.ebv).to_csv(folder / "cat.csv", index=False)
    return folder / "cat.csv"


@pytest.mark.parametrize(("name", "bands", "pixel_scale"), [("legacy", "griz", 0.262), ("lsst", "ugrizy", 0.2)])
def test_survey_by_name_is_drawn_trained_and_served(start_service, tmp_path, name, bands, pixel_scale):
    data, options = tmp_path / "sample.h5", ("--survey", name, "--size", 20)
    run_training("sample", data, "--catalogue", catalogue_of(tmp_path, bands), *options)
    bundle = train(tmp_path, data, "--batch-size", 16, "--only-f32")
    image = ModelBundle.load(bundle).card.image
    assert (image.bands, image.pixel_scale, image.size) == (tuple(bands), pixel_scale, 20)
    survey = read_survey(name)
    assert image.extinction_coefficients == tuple(survey.bands[band].extinction for band in bands)
    with open_cutouts(data) as cutouts:
        fwhm = np.median(cutouts.column("fwhm"), axis=0)
    np.testing.assert_allclose(fwhm, [survey.bands[band].fwhm for band in bands], rtol=0.1)
    check_service(data, bundle, start_service, tmp_path)


def test_the_documents_network_is_trained_and_served(start_service, tmp_path):
    data = tmp_path / "sample.h5"
    make_sample(read_kcorrect().head(40), data, SDSS_IMAGES, workers=1)
    bundle = train(tmp_path, data, "--architecture", "inception", "--batch-size", 8, "--only-f32")
    assert ModelBundle.load(bundle).card.architecture.parameters == 27_841_856
    check_service(data, bundle, start_service, tmp_path)
