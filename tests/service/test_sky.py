"""Positions on the sky, which a child of the service looks up in an archive."""

import io
import os
import resource
import shlex
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz.images import SDSS_IMAGES
from photoz.io.cutouts import Reading
from photoz.processes import process_pool
from photoz.protocol.contract import READING_HEADERS
from service import predict, sky
from service.errors import RequestError
from service.sky import UNREACHABLE, UNUSABLE
from tests.service.helpers import check_error
from tests.service.requests import local_worker
from tests.survey.loopback_archive import draw, frame_bytes, frame_path, frame_wcs, running_archive
from tests.toys import GRIZ, galaxies

RA, DEC, SHAPE = 150.1, -2.2, (420, 500)
NOT_FOUND = "no cutout of 1 position: no object of"


@pytest.fixture(scope="module")
def frames():
    """The files of an archive with a galaxy at RA, DEC, brighter in each band."""
    wcs = frame_wcs(RA, DEC, 20.0, SHAPE)
    fluxes = {band: 10.0 * number for number, band in enumerate("ugriz", 1)}
    return {
        frame_path(band, 100): frame_bytes(draw(wcs, SHAPE, [(RA, DEC, flux)]), wcs, band)
        for band, flux in fluxes.items()
    }


@pytest.fixture
def archive(frames):
    pytest.importorskip("astroquery", reason="needs astroquery: pip install 'photoz[sky]'")
    with running_archive() as archive:
        archive.files, archive.catalogue = frames.copy(), [(RA, DEC, 100, 0.1 * 3.793, 0.1 * 2.751)]
        yield archive


@pytest.fixture
def options(archive, tmp_path):
    return ["--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", str(tmp_path / "a cache")]


@pytest.fixture
def cut_out(card, options, monkeypatch):
    """Return a function that looks up a position in this process."""
    monkeypatch.setattr(sky, "limit_process", lambda *limits: None)
    return lambda position=f"{RA} {DEC}": sky.cut_out(position, options, card.image)


def test_a_position_is_cut_out(cut_out):
    arrays, _ = cut_out()
    np.testing.assert_allclose(arrays["images"].sum(axis=(1, 2)), [[10, 20, 30, 40, 50]], rtol=0.005)
    np.testing.assert_allclose(arrays["ebv"], [0.1], rtol=1e-6)
    assert arrays["ra"].tolist() == [RA]
    with pytest.raises(RequestError, match=NOT_FOUND) as refused:
        cut_out("10 10")
    assert refused.value.status == 404
    with pytest.raises(InvalidInput, match="expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 10"):
        cut_out("400 10")


@pytest.mark.parametrize(
    ("path", "fault", "message", "note"),
    [
        (
            frame_path("u", 100),
            "302 Location: http://127.0.0.1:9/secret",
            UNUSABLE,
            "another host, 'http://127.0.0.1:9/",
        ),
        (frame_path("u", 100), "404", UNUSABLE, "frame-u-000094-3-0100.fits.bz2: 404, not found"),
        ("", "503 Retry-After: 100000", UNREACHABLE, "which asks to wait for '100000' s"),
        ("crossid", "500", UNUSABLE, "gave no table; it said 500 'Internal Server Error': 'not now'"),
    ],
)
def test_what_an_archive_says_is_for_the_log(cut_out, archive, monkeypatch, path, fault, message, note):
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    archive.faults[path] = [fault] * 99
    with pytest.raises(RequestError) as refused:
        cut_out()
    assert (str(refused.value), refused.value.status) == (message, 502)
    assert note in refused.value.__notes__[0]


def limits_of(*job):
    sky.cut_out(*job)
    return resource.getrlimit(resource.RLIMIT_DATA)[0] < 2**40, 0 < signal.getitimer(signal.ITIMER_PROF)[0] < 60


def test_memory_and_processor_time_of_a_child_are_limited(options, card):
    with process_pool() as pool:
        assert pool.schedule(limits_of, (f"{RA} {DEC}", options, card.image)).result(600) == (
            sys.platform == "linux",
            True,
        )


def assume(position, options, spec):
    assert "photoz_survey.sky.position" in sys.modules
    return {"images": galaxies(spec, 1), "ra": np.array([1.5])}, Reading(used=[f"{position}, {options}"])


def end(*job):
    os._exit(3)


def compute(*job):
    sky.limit_process(sky.ALLOWED_BYTES, 0.1)
    while True:
        pass


def test_a_child_looks_up_each_position(monkeypatch, small_bundle):
    monkeypatch.setattr(sky, "TIMEOUT", 600)
    with local_worker(bundle=small_bundle.path, sky="--cache 'a cache'") as post:
        ask = partial(post, predict.sky, b'{"ra": 1.5, "dec": -2}')
        monkeypatch.setattr(sky, "cut_out", assume)
        found = ask(content_type="application/json; charset=utf-8")
        for content_type in ("application/x-www-form-urlencoded", "text/plain", ""):  # as pages of any origin send them
            check_error(ask(content_type=content_type), 415, "expected Content-Type: application/json, got ")
        for function in (end, compute):
            monkeypatch.setattr(sky, "cut_out", function)
            check_error(ask(content_type="application/json"), 502, UNUSABLE)
    assert (found.status_code, found.headers[READING_HEADERS["used"]]) == (200, "1.5 -2.0, ['--cache', 'a cache']")
    with np.load(io.BytesIO(found.content)) as arrays:
        np.testing.assert_array_equal(arrays["images"], galaxies(GRIZ, 1))
        assert arrays["ra"].tolist() == [1.5]


def test_it_is_off_by_default_and_options_are_checked_at_the_start(client, card, monkeypatch):
    check_error(client.post("/sky", json={"ra": RA, "dec": DEC}), 404, "its operator may allow that, with PHOTOZ_SKY")
    for ra in (400, "--help"):
        check_error(client.post("/sky", json={"ra": ra, "dec": DEC}), 422, "ra: input should be")
    assert client.get("/ui/options.json").json()["sky"] is False
    for options in ("'unclosed", "--nonsense"):
        with pytest.raises(InvalidInput, match=f"^PHOTOZ_SKY={options} cannot be used: (No closing|.*--nonsense)"):
            sky.check_options(options, SDSS_IMAGES)
    for options, image, message in [
        (["--help"], SDSS_IMAGES, "--help is no option"),
        (["150", "2"], SDSS_IMAGES, "expected options of photoz sky, got 150"),
        (["--source", "ls-dr9"], SDSS_IMAGES, "the model takes the band u, and layer ls-dr9"),
        ([], replace(SDSS_IMAGES, bands=tuple("ugriy")), "the model takes the band y, and SDSS DR17 has u,g,r,i,z"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            sky._parse_options(options, image)
    monkeypatch.setattr(sky, "PACKAGES", ("numpy", "nowhere"))
    with pytest.raises(InvalidInput, match=r"PHOTOZ_SKY needs nowhere: install photoz\[sky\]"):
        sky.check_options("", SDSS_IMAGES)


@pytest.mark.acceptance
def test_a_position_on_the_page(options, start_service, bundle_path, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make acceptance installs it")
    if not (chromium := shutil.which("chromium")):
        pytest.skip("needs the browser chromium: install chromium")
    variables = {"PHOTOZ_BUNDLE": bundle_path, "PHOTOZ_SKY": shlex.join(options)}
    with start_service(tmp_path, **variables) as running, playwright.sync_playwright() as started:
        refused = httpx.post(f"{running.url}/sky", json={"ra": 10, "dec": 10}, timeout=180.0)
        check_error(refused, 404, NOT_FOUND)
        page = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.goto(running.url)
        page.fill("#position", f"{RA} {DEC}")
        page.get_by_role("button", name="Look it up").click()
        page.locator("#status", has_text="1 redshift of").wait_for(timeout=180_000)
        assert page.locator("#pictures canvas").count() == 6
