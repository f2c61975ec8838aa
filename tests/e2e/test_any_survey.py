"""Train, serve and evaluate without code changes: another survey, and the document's network."""

import subprocess
import sys

import numpy as np
import pytest

from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from photoz_client import PhotozClient
from tests.running import ROOT
from training.catalogue import read_kcorrect
from training.sample import make_sample

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def run_training(command, *arguments):
    program = [sys.executable, "-m", "training", command, *map(str, arguments), "--no-figures"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train(folder, data, *options):
    paths = ("--data", data, "--bundle", folder / "bundle", "--run", folder / "run")
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
    output = run_training("evaluate", bundle, data, "--out", tmp_path)
    assert "gradient-boosted trees, aperture fluxes of the cutouts" in output
    assert (tmp_path / "report.html").is_file()


def test_the_documents_network_is_trained_and_served(start_service, tmp_path):
    data = tmp_path / "sample.h5"
    make_sample(read_kcorrect().head(40), data, SDSS_IMAGES, workers=1)
    bundle = train(tmp_path, data, "--architecture", "inception", "--batch-size", 8, "--only-f32")
    assert ModelBundle.load(bundle).card.architecture.parameters == 27_841_856
    check_service(data, bundle, start_service, tmp_path)
