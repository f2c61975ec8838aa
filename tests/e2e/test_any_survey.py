"""Train, serve and evaluate without code changes: another survey, and the document's network."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from photoz.errors import InvalidBundle
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
    return data, folder / "bundle"


@pytest.fixture(scope="module")
def griz(tmp_path_factory):
    """A survey of (n, 23, 23, 4) griz cutouts as a plain .npz file, and a bundle with 90 bins up to z = 0.6."""
    folder = tmp_path_factory.mktemp("griz")
    spec = ImageSpec(size=23, bands="griz")
    make_sample(read_kcorrect(spec.bands).head(250), folder / "sample.h5", spec, workers=1)
    with open_cutouts(folder / "sample.h5") as cutouts:
        columns = {name: cutouts.column(name) for name in ("ebv", "z_spec", "object_id")}
        np.savez(folder / "griz.npz", images=cutouts.images[:], **columns)
    return train(folder, folder / "griz.npz", "--z-max", 0.6, "--n-bins", 90, "--bands", "griz")


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Forty SDSS-like cutouts, and the document's network after one epoch on them."""
    folder = tmp_path_factory.mktemp("inception")
    make_sample(read_kcorrect().head(40), folder / "sample.h5", SDSS_IMAGES, workers=1)
    return train(folder, folder / "sample.h5", "--architecture", "inception", "--batch-size", 8)


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


def test_another_survey_is_served_and_evaluated(griz, start_service, tmp_path):
    data, bundle = griz
    card = ModelBundle.load(bundle).card
    assert card.image.shape == (23, 23, 4)
    assert (card.grid.z_max, card.grid.n_bins) == (0.6, 90)
    check_service(data, bundle, start_service, tmp_path)


def test_another_survey_is_evaluated_offline(griz, tmp_path):
    data, bundle = griz
    output = run_training("evaluate", bundle, data, "--out", tmp_path)
    assert "gradient-boosted trees, aperture fluxes of the cutouts" in output
    assert (tmp_path / "report.html").is_file()


def test_the_documents_network_is_trained_and_served(inception, start_service, tmp_path):
    data, bundle = inception
    assert ModelBundle.load(bundle).card.architecture.parameters == 27_841_856
    check_service(data, bundle, start_service, tmp_path)


def test_a_bundle_with_one_changed_bit_is_refused(inception, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(inception[1], bundle)
    with (bundle / "model.keras").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(InvalidBundle, match=r"model\.keras"):
        ModelBundle.load(bundle)
