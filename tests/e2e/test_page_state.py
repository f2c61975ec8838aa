"""What the page keeps: tab, galaxy and filter in the address, and the last file across a reload."""

import hashlib
import re

import numpy as np
import pytest

from tests.e2e.test_page import cells, download, expect, open_sample, wait_for_redshifts

pytestmark = pytest.mark.acceptance


def test_the_address_names_tab_galaxy_and_filter(page, service_url, sample, tmp_path):
    names = sample["object_id"]
    open_sample(page)
    expect(page).to_have_url(f"{service_url}/ui#galaxy={names[0]}".replace("+", "%2B"))
    page.wait_for_timeout(1100)  # selections within a second are one entry of the history
    page.get_by_role("row", name=names[3]).click()
    page.wait_for_timeout(1100)
    page.click("#tab-evaluate")
    expect(page).to_have_url(re.compile(rf"#tab=evaluate&galaxy={re.escape(names[3])}$"))
    page.go_back()
    expect(page.locator("#redshifts")).to_be_visible()
    page.go_back()
    expect(page.locator("#galaxy-name")).to_have_text(names[0])
    page.go_forward()
    expect(page.locator("#galaxy-name")).to_have_text(names[3])
    page.fill("#filter-low", "0.1")
    page.select_option("#filter-flag", "none")
    count = page.locator("#count").inner_text()
    bookmark = page.url
    page.click("#forget")
    expect(page.locator("#results")).to_be_hidden()
    expect(page).to_have_url(f"{service_url}/ui")
    page.goto("about:blank")
    page.goto(bookmark)
    open_sample(page)
    expect(page.locator("#galaxy-name")).to_have_text(names[3])
    expect(page.locator("#count")).to_have_text(count)
    np.savez(tmp_path / "a.npz", images=sample["images"])
    page.set_input_files("#file", tmp_path / "a.npz")  # which the address is not about
    expect(page.locator("#count")).to_have_text("8 of 8")
    expect(page).to_have_url(f"{service_url}/ui#galaxy=0")


def test_the_last_file_survives_a_reload_until_it_is_forgotten(page, sample, tmp_path):
    np.savez(tmp_path / "a.npz", **sample)
    page.set_input_files("#file", tmp_path / "a.npz")
    wait_for_redshifts(page)
    expect(page.locator("#forget")).to_be_visible()
    before, asked = cells(page, "z_mean"), []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.reload()
    wait_for_redshifts(page)
    assert cells(page, "z_mean") == before
    assert "infer" not in asked
    saved, content = download(page, "[data-format=fits]")
    assert (saved, content[:6]) == ("a-redshifts.fits", b"SIMPLE")
    page.click("#tab-evaluate")
    expect(page.locator("#scores caption")).to_contain_text("8 galaxies")
    page.click("#tab-redshifts")
    with page.expect_navigation():
        page.click("#forget")
    expect(page.locator("#results")).to_be_hidden()
    page.reload()
    expect(page.locator("#model-name")).to_contain_text("photoz ")
    expect(page.locator("#results")).to_be_hidden()
    page.wait_for_timeout(500)
    expect(page.locator("#results")).to_be_hidden()


def test_nothing_is_kept_where_a_key_is_needed(open_page, start_service, bundle_path, tmp_path):
    (tmp_path / "keys").write_text(f"alice {hashlib.sha256(b'secret').hexdigest()}\n")
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=tmp_path / "keys") as running:
        page = open_page(running.url, r"status of 401")
        for _ in range(2):
            page.fill("#key", "secret")
            page.get_by_role("button", name="Use").click()
            expect(page.locator("#error")).to_be_hidden()
            expect(page.locator("#results")).to_be_hidden()
            open_sample(page)
            expect(page.locator("#forget")).to_be_hidden()
            page.reload()
