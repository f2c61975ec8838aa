"""Positions on the sky, looked up in an archive that the operator allows, over HTTP and on the page."""

import io
import shutil

import httpx
import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from photoz.errors import InvalidInput
from service.sky import check_packages
from tests.service.helpers import check_error
from tests.survey.loopback_archive import draw, frame_bytes, frame_path, frame_wcs, running_archive

RA, DEC, SHAPE = 150.1, -2.2, (420, 500)


@pytest.fixture(scope="module")
def archive():
    """An archive with a galaxy at RA, DEC, brighter in each band."""
    wcs = frame_wcs(RA, DEC, 20.0, SHAPE)
    with running_archive() as archive:
        for number, band in enumerate("ugriz"):
            archive.files[frame_path(band, 100)] = frame_bytes(draw(wcs, SHAPE, [(RA, DEC, 10.0 * (number + 1))]), wcs)
        archive.catalogue = [(RA, DEC, 100, 0.1 * 3.793, 0.1 * 2.751)]
        yield archive


@pytest.fixture(scope="module")
def service_with_archive(archive, start_service, bundle_path, tmp_path_factory):
    home = tmp_path_factory.mktemp("sky")
    options = f"--archive {archive.url}/sas --catalogue {archive.url} --cache '{home / 'a cache'}'"
    with start_service(home, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_SKY=options) as running:
        yield running


def look_up(running, **position):
    return httpx.post(f"{running.url}/sky", json=position, timeout=60.0)


@pytest.mark.slow
def test_a_position_becomes_a_cutout(service_with_archive):
    answer = look_up(service_with_archive, ra=RA, dec=DEC)
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content)) as found:
        np.testing.assert_allclose(found["images"].sum(axis=(1, 2)), [[10, 20, 30, 40, 50]], rtol=0.005)
        np.testing.assert_allclose(found["ebv"], [0.1], rtol=1e-6)
        assert found["ra"].tolist() == [RA]
    check_error(look_up(service_with_archive, ra=10, dec=10), 502, "no cutout of 1 positions; the first: no object of")
    check_error(look_up(service_with_archive, ra=400, dec=0), 422, "ra")
    check_error(look_up(service_with_archive, ra="--help", dec=0), 422, "ra")


def test_it_is_off_by_default(client):
    check_error(client.post("/sky", json={"ra": RA, "dec": DEC}), 404, "its operator may allow that, with PHOTOZ_SKY")
    assert client.get("/ui/options.json").json()["sky"] is False


def test_missing_packages_end_the_start(monkeypatch):
    monkeypatch.setattr("service.sky.PACKAGES", ("numpy", "nowhere"))
    with pytest.raises(InvalidInput, match=r"PHOTOZ_SKY needs nowhere: install photoz\[sky\]"):
        check_packages()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_position_on_the_page(service_with_archive):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(service_with_archive.url)
        page.fill("#ra", str(RA))
        page.fill("#dec", str(DEC))
        page.get_by_role("button", name="Look it up").click()
        page.locator("#status", has_text="1 redshift of").wait_for(timeout=60_000)
        assert page.locator("#pictures canvas").count() == 6
        browser.close()
