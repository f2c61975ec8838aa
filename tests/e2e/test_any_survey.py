"""From cutouts to answers over HTTP, with no code changed: another survey, and the document's network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidBundle
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from photoz_client import PhotozClient
from training.catalogue import read_kcorrect
from training.sample import make_sample

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def train(*arguments: object) -> None:
    command = [sys.executable, "-m", "training", "train", "--epochs", "1", "--no-figures", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def griz(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A survey of (n, 23, 23, 4) griz cutouts as a plain .npz file, and a bundle with 90 bins up to z = 0.6."""
    folder = tmp_path_factory.mktemp("griz")
    spec = ImageSpec(size=23, bands="griz")
    make_sample(read_kcorrect(spec.bands).head(250), folder / "sample.h5", spec, workers=1)
    with open_cutouts(folder / "sample.h5") as cutouts:
        names = ("ebv", "z_spec", "object_id")
        np.savez(folder / "griz.npz", images=cutouts.images[:], **{name: cutouts.column(name) for name in names})
    grid = ("--z-max", 0.6, "--n-bins", 90, "--bands", "griz")
    train("--data", folder / "griz.npz", "--bundle", folder / "bundle", "--run", folder / "run", *grid)
    return folder / "griz.npz", folder / "bundle"


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Forty SDSS-like cutouts, and the document's network after one epoch on them."""
    folder = tmp_path_factory.mktemp("inception")
    make_sample(read_kcorrect().head(40), folder / "sample.h5", SDSS_IMAGES, workers=1)
    network = ("--architecture", "inception", "--batch-size", 8)
    train("--data", folder / "sample.h5", "--bundle", folder / "bundle", "--run", folder / "run", *network)
    return folder / "sample.h5", folder / "bundle"


def serve_and_ask(data: Path, bundle: Path, start_service, home: Path) -> None:
    with open_cutouts(data) as cutouts:
        images, z_spec, ebv = cutouts.images[:20], cutouts.column("z_spec")[:20], cutouts.column("ebv")[:20]
    card = ModelBundle.load(bundle).card
    with start_service(home, PHOTOZ_BUNDLE=bundle) as service, PhotozClient(service.url) as client:
        predicted = client.predict(images, ebv=ebv, pdf=True)
        assert predicted.pdf.shape == (20, card.grid.n_bins)
        assert ((predicted.z_lo68 <= predicted.z_hi68) & (predicted.z_hi68 <= card.grid.z_max + 1e-9)).all()
        evaluated = client.evaluate(z_spec, images=images, ebv=ebv)
        assert evaluated.n_galaxies == 20
        assert client.model().digest == card.digest


def test_another_survey_is_served_and_evaluated(griz, start_service, tmp_path: Path) -> None:
    data, bundle = griz
    card = ModelBundle.load(bundle).card
    assert card.image.shape == (23, 23, 4)
    assert (card.grid.z_max, card.grid.n_bins) == (0.6, 90)
    serve_and_ask(data, bundle, start_service, tmp_path)


def test_another_survey_is_evaluated_offline(griz, tmp_path: Path) -> None:
    data, bundle = griz
    command = [
        sys.executable,
        "-m",
        "training",
        "evaluate",
        str(bundle),
        str(data),
        "--out",
        str(tmp_path),
        "--no-figures",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gradient-boosted trees, aperture fluxes of the cutouts" in done.stdout
    assert (tmp_path / "report.html").is_file()


def test_the_documents_network_is_trained_and_served(inception, start_service, tmp_path: Path) -> None:
    data, bundle = inception
    assert ModelBundle.load(bundle).card.architecture.parameters == 27_841_856
    serve_and_ask(data, bundle, start_service, tmp_path)


def test_a_bundle_is_refused_after_one_byte_of_it_is_changed(inception, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(inception[1], copy)
    with (copy / "model.keras").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(InvalidBundle, match=r"model\.keras is not the file"):
        ModelBundle.load(copy)
