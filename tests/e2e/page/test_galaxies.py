"""Tables, plots, evaluation and the model card on the page, by mouse and by keyboard."""

import json
import re

import httpx
import numpy as np
import pytest

from photoz.flags import FLAG_MEANINGS, Flag
from tests.e2e.page.browser import MARKS, SAMPLE, cells, download, expect, open_file, open_sample, wait_for_redshifts

pytestmark = MARKS


def test_flags_in_words(page):
    open_sample(page)
    assert cells(page, "flags")[0] == "BEYOND_TRAINING"
    words = f"BEYOND_TRAINING: {FLAG_MEANINGS[Flag.BEYOND_TRAINING]}"
    assert page.locator("#flags li").all_inner_texts() == [words]
    assert page.locator("#filter-flag option").all_inner_texts() == ["any", "none", *(flag.name for flag in Flag)]


def test_sort_filter_and_choose(page, sample):
    open_sample(page)
    page.get_by_role("button", name="z_mean").click()
    ascending = [float(z) for z in cells(page, "z_mean")]
    assert ascending == sorted(ascending)
    page.get_by_role("button", name="z_mean").click()
    assert [float(z) for z in cells(page, "z_mean")] == ascending[::-1]
    expect(page.get_by_role("columnheader", name="z_mean")).to_have_attribute("aria-sort", "descending")
    page.fill("#filter-low", "0.1")
    assert page.locator("#count").inner_text() == f"{sum(z >= 0.1 for z in ascending)} of 8"
    page.fill("#filter-low", "")
    page.fill("#filter-name", sample["object_id"][5])
    assert cells(page, "object_id") == [sample["object_id"][5]]
    page.fill("#filter-name", "")
    page.select_option("#filter-flag", "none")
    assert set(cells(page, "flags")) == {"none"}
    page.select_option("#filter-flag", "any")
    page.get_by_role("row", name=sample["object_id"][2]).click()
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][2]
    assert page.locator("#pictures canvas").count() == 6
    assert f"{sample['z_spec'][2]:.4f}" in page.locator("#values").inner_text()


def test_overlay_zoom_and_readout(page, sample):
    open_sample(page)
    page.click("#pin")
    page.get_by_role("row", name=sample["object_id"][3]).click()
    assert page.locator("#pdf polyline").count() == 2
    page.click("#unpin")
    assert page.locator("#pdf polyline").count() == 1

    def axis_labels():
        return page.locator("#pdf text").all_inner_texts()

    before = axis_labels()
    page.click("#zoom-in")
    assert axis_labels() != before
    page.click("#zoom-all")
    assert axis_labels() == before
    box = page.locator("#pdf svg").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    assert re.fullmatch(r"z = 0\.\d{4}, p\(z\) = \d+\.\d\d", page.locator("#readout").inner_text())
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle)
    page.mouse.up()
    assert axis_labels() != before


def test_evaluation(page, service_url, sample, tmp_path):
    open_sample(page)
    page.click("#tab-evaluate")
    expect(page.locator("#plots img")).to_have_count(3, timeout=30_000)
    scores = httpx.post(f"{service_url}/evaluate", content=SAMPLE.read_bytes()).json()["scores"]
    shown = [float(text) for text in page.locator("#scores tbody td:nth-child(2)").all_inner_texts()]
    assert shown == pytest.approx([score["value"] for score in scores.values()], abs=1e-4)
    page.locator("#scatter").focus()
    page.keyboard.press("ArrowRight")
    page.click("#tab-redshifts")
    order = np.argsort(sample["z_spec"])
    first = page.locator("#galaxy-name").inner_text()
    assert first in sample["object_id"][order]
    page.click("#tab-evaluate")
    box, at = page.locator("#scatter").bounding_box(), order[-1]
    z_mean = httpx.post(f"{service_url}/predict_file", content=SAMPLE.read_bytes()).json()["z_mean"][at]
    scale = box["width"] / 420
    x, y = (44 + sample["z_spec"][at] / 0.4 * 332) * scale, (420 - 44 - z_mean / 0.4 * 332) * scale
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.click("#tab-redshifts")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][at]
    page.click("#tab-evaluate")
    report = download(page, page.locator("#report").click)
    assert "<html" in report.path().read_text()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_true_redshifts_of_a_second_file(page, sample, tmp_path, kind):
    np.savez(tmp_path / "a.npz", images=sample["images"], object_id=sample["object_id"])
    open_file(page, tmp_path / "a.npz")
    wait_for_redshifts(page, 8)
    page.click("#tab-evaluate")
    if kind == "csv":
        lines = [f"{name},{z}" for name, z in zip(sample["object_id"], sample["z_spec"], strict=True)]
        (tmp_path / "z.csv").write_text("\n".join(["object_id,z_spec", *lines[::-1]]))
    else:
        np.savez(tmp_path / "z.npz", z_spec=sample["z_spec"])
    page.set_input_files("#truth", tmp_path / f"z.{kind}")
    expect(page.locator("#scores caption")).to_have_text("8 galaxies", timeout=30_000)


def test_the_model_in_words(page, card):
    page.click("#tab-model")
    expect(page.locator("#card")).to_contain_text(f"{card.name} {card.version}")
    text = page.locator("#card").inner_text()
    assert "cutouts of 64x64 pixels of 0.396 arcsec, bands u, g, r, i, z, in nanomaggy" in text
    assert all(caveat in text for caveat in card.caveats)
    assert f"{card.test.scores['this model']['sigma_mad'].value:.4f}" in text


def test_drift_is_that_of_the_metrics(page, sample):
    open_sample(page)
    page.click("#tab-model")
    expect(page.locator("#card dl").last).to_contain_text(re.compile(r"z_mean\s*0\.\d{3} of [\d,]+ galaxies"))


def test_by_keyboard_alone(page, sample):
    expect(page.locator("#model-name")).to_contain_text("photoz ")
    for _ in range(20):
        if page.evaluate("document.activeElement.id") == "sample":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_redshifts(page, 8)
    for _ in range(30):
        if page.evaluate("document.activeElement.tagName") == "TR":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][2]
    page.keyboard.press("Space")
    page.keyboard.press("End")
    assert page.locator("#galaxy-name").inner_text() == sample["object_id"][7]
    assert page.locator("#pdf polyline").count() == 2
    page.locator("#tab-redshifts").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#evaluate")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_serious_is_found_by_axe(open_page, service_url, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(service_url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    open_sample(page)
    for tab in ("redshifts", "evaluate", "model"):
        page.click(f"#tab-{tab}")
        violations = Axe().run(page).response["violations"]
        serious = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
        html = {violation["id"]: [node["html"] for node in violation["nodes"]] for violation in serious}
        assert json.dumps(html) == "{}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_first_use_and_many_galaxies(page, sample, tmp_path):
    """Speed is measured by `python -m benchmarks.page`; that it works is tested here."""
    np.save(tmp_path / "many.npy", np.tile(sample["images"], (125, 1, 1, 1)))
    open_file(page, tmp_path / "many.npy")
    wait_for_redshifts(page, 1000)
    page.locator("#scroller").evaluate("it => it.scrollTop = 1e9")
    expect(page.locator("#table tbody td.object_id").last).to_have_text("999")
    assert page.locator("#table tbody tr").count() < 60
