"""Predictions in this process, without a service: the same results, bit for bit, and the same errors."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from astropy.io import fits

from photoz.errors import InvalidBundle, InvalidInput
from photoz.inference.preflight import preflight
from photoz_client import LocalClient, PhotozClient, PredictionIncomplete
from tests.running import ROOT
from tests.toys import GRIZ, galaxies

# Two parts: the engine runs the second as batches of 64 and 6.
N = 256 + 70


@pytest.fixture(scope="module")
def columns(card):
    """Cutouts of different brightness, with masked pixels, a missing band and unknown E(B-V)."""
    rng = np.random.default_rng(0)
    images = galaxies(card.image, N) * rng.uniform(0.2, 30.0, (N, 1, 1, 1)).astype(np.float32)
    images[5, 10:12], images[9, ..., 2] = np.nan, np.nan
    ebv = np.where(np.arange(N) % 7, rng.uniform(0.0, 0.2, N), np.nan)
    return {"images": images, "ebv": ebv, "z_spec": rng.uniform(0.0, 0.4, N), "object_id": np.arange(N) + 1000}


@pytest.fixture(scope="module")
def files(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("cutouts")
    with h5py.File(folder / "cutouts.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    images, size = columns["images"][:70].astype(">f8"), columns["images"][0].size
    pixels = fits.Column("images", f"{size}D", dim=str(images.shape[:0:-1]), array=images.reshape(70, size))
    fits.BinTableHDU.from_columns([pixels, fits.Column("ebv", "E", array=columns["ebv"][:70])]).writeto(
        folder / "cutouts.fits"
    )
    return {"npz": ROOT / "examples" / "cutouts.npz", "h5": folder / "cutouts.h5", "fits": folder / "cutouts.fits"}


@pytest.fixture
def both(service_url, bundle_path):
    """A client of a service, and one without, for the same bundle."""
    return PhotozClient(service_url, timeout=None), LocalClient(bundle_path)


@pytest.mark.parametrize(
    ("cutouts", "written", "options"),
    [
        ("npz", "csv", ()),
        ("npz", "fits", ("--pdf",)),
        ("h5", "parquet", ("--pdf",)),
        ("h5", "npz", ("--quantiles", "0.16,0.84", "--ebv", "0.1")),
        ("fits", "hdf5", ("--pdf",)),
    ],
)
def test_files_are_those_of_a_service(
    photoz, service_url, bundle_path, tmp_path, monkeypatch, files, cutouts, written, options
):
    monkeypatch.setenv("PHOTOZ_URL", "http://127.0.0.1:9")  # is no reason to refuse --bundle
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    outputs = []
    for source in (("--url", service_url), ("--bundle", bundle_path)):
        path = tmp_path / f"z.{written}"
        result = photoz("predict", files[cutouts], *source, *options, "-o", path)
        outputs.append((result, path.read_bytes()))
        path.unlink()
    assert outputs[0][0][0] == 0
    assert outputs[0] == outputs[1]


def test_methods_return_what_those_of_a_client_of_a_service_do(both, columns):
    def results(client):
        images, ebv = columns["images"], columns["ebv"]
        given = {"z_spec": columns["z_spec"][:20] * 2, "images": images[:20], "ebv": ebv[:20]}
        client.wait_until_ready()
        prediction = client.predict(images, ebv=ebv, pdf=True)
        yield [(name, values.dtype, values.tobytes()) for name, values in prediction.columns()]
        yield prediction.model
        yield client.predict(images[0].astype(np.float16)).pdf
        yield client.model()
        yield client.evaluate(**given, object_id=columns["object_id"][:20])
        yield client.evaluate(columns["z_spec"], images=images, ebv=0.1)  # in two parts
        yield client.evaluate_plot(**given, plot="pdfs", num_images=4, format="svg")

    with both[0] as service, both[1] as local:
        for with_service, without in zip(results(service), results(local), strict=True):
            assert without == with_service


def test_the_report_is_that_of_a_service(both, columns):
    pdfs = np.tile(np.eye(180)[:6], (2, 1))
    given = {"pdfs": pdfs, "object_id": np.arange(12), "magnitudes": np.linspace(15, 17, 12)}
    with both[0] as service, both[1] as local:
        pages = [client.evaluate_report(columns["z_spec"][:12] * 2, **given) for client in (service, local)]
    assert pages[0] == pages[1]


def empty(n, *rows):
    images = np.ones((n, 64, 64, 5), np.float32)
    images[list(rows)] = np.nan
    return images


BAD = {
    "shape": lambda client: client.predict(np.ones((2, 32, 32, 5))),
    "no cutouts": lambda client: client.predict(empty(0)),
    "type": lambda client: client.predict(np.ones((2, 64, 64, 5), complex)),
    "pixels": lambda client: client.predict(empty(3) * np.float32(3e38)),
    "finite": lambda client: client.predict(empty(3, 1)),
    "finite in one of two parts": lambda client: client.predict(empty(300, 2, 290), object_id=np.arange(300)),
    "E(B-V) in one of two parts": lambda client: client.predict(empty(300), ebv=np.where(np.arange(300) < 299, 0, 99)),
    "z_spec": lambda client: client.evaluate([0.1, 0.2], images=empty(3)),
    "off the grid": lambda client: client.evaluate([7.0], images=empty(1)),
    "nothing": lambda client: client.evaluate([0.1]),
    "plot": lambda client: client.evaluate_plot([0.1], images=empty(1), plot="pie"),
    "panels": lambda client: client.evaluate_plot([0.1], images=empty(1), plot="pdfs", num_images=99),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_errors_are_those_of_a_service(both, call):
    def failure(client):
        with pytest.raises((InvalidInput, PredictionIncomplete)) as caught:
            call(client)
        error = caught.value
        rows = error.rows.tolist() if isinstance(error, PredictionIncomplete) else None
        return isinstance(error, InvalidInput), str(error), rows, rows and error.prediction.z_mean.tolist()

    with both[0] as service, both[1] as local:
        assert failure(local) == failure(service)


def test_unusable_bundles_and_files_and_options_of_a_service_are_refused(photoz, bundle_path, tmp_path, files):
    with pytest.raises(InvalidBundle) as caught:
        preflight(tmp_path)  # as at the start of a service
    assert photoz("predict", files["npz"], "--bundle", tmp_path) == (1, "", f"Error: {caught.value}\n")
    for command in ("predict", "evaluate"):
        (bad := tmp_path / "bad.npz").write_bytes(b"hello")
        status, out, err = photoz(command, bad, "--bundle", bundle_path)
        assert (status, out, err[:7], err.count("\n")) == (1, "", "Error: ", 1)
        for option in ("--url=http://x", f"--api-key-file={bad}", "--in-flight=4", "--wire-dtype=float16"):
            status, out, err = photoz(command, files["npz"], "--bundle", bundle_path, option)
            name = option.partition("=")[0]
            message = f"Error: {name} is for a service: leave it out, or --bundle"
            assert (status, out, err.splitlines()[-1]) == (2, "", message)


def test_many_cutouts_are_predicted_part_by_part_also_in_an_event_loop_and_by_several_threads(
    make_toy_bundle, tmp_path
):
    images, counts = galaxies(GRIZ, 600), []

    async def notebook_cell():
        with h5py.File(tmp_path / "cutouts.h5", "w") as file:
            return list(client.predict_parts(file.create_dataset("images", data=images), progress=counts.append))

    with LocalClient(make_toy_bundle().path, threads=1) as client:
        assert repr(client).startswith("LocalClient('")
        parts = asyncio.run(notebook_cell())
        with ThreadPoolExecutor(3) as threads:
            whole = list(threads.map(lambda _: client.predict(images), range(3)))
        first = next(client.predict_parts(images))[1]
    assert ([len(rows) for rows, _ in parts], counts) == ([256, 256, 88], [256, 256, 88])
    for prediction in whole:
        assert prediction.object_id.tolist() == list(range(600))
        assert prediction.z_mean.tolist() == [z for _, part in parts for z in part.z_mean.tolist()]
    assert first.z_mean.tolist() == whole[0].z_mean[:256].tolist()
