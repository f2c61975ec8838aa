"""The first screen of the page, and the pane of a galaxy: answers, zoom and pictures."""

import re
import time

import numpy as np
import pytest

from tests.e2e.test_page import TIMEOUT, ask, open_sample, wait_for_redshifts

pytestmark = pytest.mark.acceptance

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: make acceptance installs it").expect
expect.set_options(timeout=TIMEOUT)


def test_the_first_screen_answers_for_the_sample_and_opens_it(open_page, service_url, card, sample):
    page, expected = open_page(service_url), ask(service_url, "predict_file")
    expect(page.locator("#lead")).to_be_visible()
    expect(page.locator("#welcome li")).to_have_count(3)
    for caveat in card.caveats:
        expect(page.locator("#caveats")).to_contain_text(caveat)
    texts = [f"z = {z:.3f} ± {std:.3f}" for z, std in zip(expected["z_mean"], expected["z_std"], strict=True)]
    expect(page.locator("#answers b")).to_have_text(texts)
    expect(page.locator("#answers .true")).to_have_text([f"z_spec {z:.3f}" for z in sample["z_spec"]])
    expect(page.locator("#answers canvas")).to_have_count(8)
    before = page.locator("#drop").bounding_box()["height"]
    page.locator("#answers button").nth(4).press("Enter")
    wait_for_redshifts(page)
    expect(page.locator("#galaxy-name")).to_have_text(sample["object_id"][4])
    for part in ("#welcome", "#answered", "#caveats"):
        expect(page.locator(part)).to_be_hidden()
    assert page.locator("#drop").bounding_box()["height"] < min(60, before / 2)  # one line


def test_the_page_can_be_used_while_the_answers_are_awaited(browser, service_url):
    page = browser.new_page()
    page.route("**/infer", lambda route: None)
    started = time.monotonic()
    page.goto(service_url)
    page.locator("#wanted", has_text="The model takes").wait_for(timeout=TIMEOUT)
    assert time.monotonic() - started < 5.0
    expect(page.locator("#answered")).to_be_hidden()
    expect(page.locator("#sample")).to_be_enabled()
    page.close()


def test_a_model_of_other_bands_has_no_answers(browser, service_url):
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))

    def other_bands(route):
        answer = route.fetch()
        content = answer.json()
        content["image"]["bands"] = ["g", "r", "i", "z", "y"]
        route.fulfill(response=answer, json=content)

    page.route("**/model", other_bands)
    page.goto(service_url)
    expect(page.locator("#wanted")).to_contain_text("g, r, i, z, y")
    expect(page.locator("#caveats")).to_be_visible()
    expect(page.locator("#answered")).to_be_hidden()
    assert not any("sample.npz" in url for url in asked)
    page.close()


def test_zoom_keeps_the_peak_in_view_or_the_pointer(page):
    open_sample(page)
    mode = float(page.locator("#values dd").nth(2).inner_text())

    def shown_range():
        ticks = [float(text) for text in page.locator("#pdf text[y='277']").all_text_contents()]
        return ticks[0], ticks[-1]

    for _ in range(3):
        page.click("#zoom-in")
    low, high = shown_range()
    assert high - low <= 0.4 / 8
    assert low - 0.01 < mode < high + 0.01
    page.click("#zoom-all")
    box = page.locator("#pdf svg").bounding_box()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2)
    at = float(re.search(r"z = ([\d.]+)", page.locator("#readout").inner_text()).group(1))
    page.locator("#pdf svg").focus()
    for _ in range(3):
        page.keyboard.press("+")
    low, high = shown_range()
    assert low - 0.01 < at < high + 0.01
    assert high - low <= 0.4 / 8


def test_the_picture_has_a_scale_masked_pixels_and_a_stretch(page, sample, tmp_path):
    images = sample["images"].copy()
    images[0, :8] = np.nan  # the lowest rows of the picture
    np.savez(tmp_path / "a.npz", **sample | {"images": images})
    page.set_input_files("#file", tmp_path / "a.npz")
    wait_for_redshifts(page)
    canvas, scale = page.locator("#picture canvas"), page.locator("#picture text")
    pixel = "(canvas, y) => Array.from(canvas.getContext('2d').getImageData(32, y, 1, 1).data)"
    expect(page.locator("#masked")).to_be_visible()
    assert canvas.evaluate(pixel, 60) == [255, 0, 255, 255]
    expect(scale).to_have_text(["5″"])  # and no compass: the orientation is not known
    assert canvas.bounding_box()["width"] > 200
    tops = {round(band.bounding_box()["y"]) for band in page.locator("#bands canvas").all()}
    assert (len(tops), page.locator("#bands canvas").count()) == (1, 5)
    page.get_by_role("row", name=sample["object_id"][2]).click()
    expect(page.locator("#masked")).to_be_hidden()
    total = "canvas => canvas.getContext('2d').getImageData(0, 0, 64, 64).data.reduce((a, b) => a + b)"
    before = canvas.evaluate(total)
    page.click("#softer")
    assert canvas.evaluate(total) > before
    page.click("#harder")
    page.click("#harder")
    assert canvas.evaluate(total) < before


def test_a_cutout_of_a_position_has_a_compass(open_page, service_url, sample, tmp_path):
    np.savez(tmp_path / "a.npz", **{name: values[:1] for name, values in sample.items()})
    page = open_page("about:blank", f"^{service_url}")

    def with_sky(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"sky": True})

    page.route("**/options.json", with_sky)
    page.route("**/sky", lambda route: route.fulfill(body=(tmp_path / "a.npz").read_bytes()))  # in place of an archive
    page.goto(service_url)
    page.fill("#position", "150.1 2.2")
    page.get_by_role("button", name="Look it up").click()
    expect(page.locator("#picture text")).to_have_text(["5″", "N", "E"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe_before_a_file_is_opened(open_page, service_url, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = open_page(service_url, color_scheme=scheme)
    expect(page.locator("#answers button")).to_have_count(8)
    violations = axe.run(page).response["violations"]
    assert [violation["id"] for violation in violations if violation["impact"] in ("serious", "critical")] == []
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
