"""The page in a browser: files, tables, plots, evaluation, the model, failures; by mouse and by keyboard."""

import hashlib
import io
import json
import re

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from photoz.flags import FLAG_MEANINGS, Flag
from tests.e2e.conftest import TIMEOUT
from tests.running import ROOT

pytestmark = pytest.mark.acceptance

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: make acceptance installs it").expect
expect.set_options(timeout=TIMEOUT)

SAMPLE = (ROOT / "examples" / "cutouts.npz").read_bytes()


def wait_for_redshifts(page, n=8):
    expect(page.locator("#status")).to_contain_text(f"{n} redshifts of")


def open_sample(page):
    page.click("#sample")
    wait_for_redshifts(page)


def cells(page, column):
    return page.locator(f"#table tbody td.{column}").all_inner_texts()


def download(page, selector):
    with page.expect_download() as started:
        page.click(selector)
    return started.value.suggested_filename, started.value.path().read_bytes()


def ask(url, path, content=SAMPLE):
    """Return what the service answers without the page."""
    return httpx.post(f"{url}/{path}", content=content, timeout=60.0).json()


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "fits"])
def test_a_file_of_each_format(page, service_url, sample, tmp_path, suffix):
    path, images = tmp_path / f"a.{suffix}", sample["images"]
    match suffix:
        case "npy":
            np.save(path, images)
        case "npz":
            np.savez_compressed(path, **sample | {"images": images.astype(np.float16)})
        case "h5":
            with h5py.File(path, "w") as file:
                file.update(sample | {"object_id": sample["object_id"].astype("S")})
        case "fits":
            header = fits.Header({"BANDS": "ugriz", "BUNIT": "nanomaggy"})
            fits.PrimaryHDU(np.moveaxis(images, -1, 1), header).writeto(path)
    page.set_input_files("#file", path)
    wait_for_redshifts(page)
    expected = ask(service_url, "predict_file", path.read_bytes())
    assert [float(z) for z in cells(page, "z_mean")] == pytest.approx(expected["z_mean"], abs=6e-5)
    has_names = suffix in ("npz", "h5")
    assert cells(page, "object_id") == (sample["object_id"].tolist() if has_names else list("01234567"))
    assert ("ebv assumed" in cells(page, "flags")[0]) == (not has_names)
    expect(page.locator("#table tbody canvas")).to_have_count(8)


def test_unusable_files_are_explained(open_page, service_url, sample, tmp_path):
    page = open_page(service_url, r"status of 4\d\d|object_id holds")
    open_sample(page)
    np.save(tmp_path / "a.npy", sample["images"][..., 1:])
    (tmp_path / "a.txt").write_bytes(b"hello")
    page.set_input_files("#file", tmp_path / "a.npy")
    expect(page.locator("#error")).to_contain_text("expected 5 bands as the second or the last axis of images")
    page.set_input_files("#file", tmp_path / "a.txt")
    expect(page.locator("#error")).to_contain_text("expected a .npy, .npz, FITS or HDF5 file, got 5 bytes")
    np.savez(tmp_path / "floats.npz", images=sample["images"], object_id=np.full(8, 1.2376517e18))
    page.set_input_files("#file", tmp_path / "floats.npz")
    expect(page.locator("#error")).to_contain_text("object_id holds floating-point numbers, which lose digits")
    expect(page.locator("#retry")).to_be_hidden()  # it would not help
    page.get_by_role("row", name=sample["object_id"][2]).click()  # what was shown is still there
    expect(page.locator("#galaxy-name")).to_have_text(sample["object_id"][2])


def test_flags_sort_filter_and_choose(page, sample):
    names = sample["object_id"]
    transfer = page.evaluate_handle(
        """bytes => {
            const all = new DataTransfer();
            all.items.add(new File([new Uint8Array(bytes)], "a.npz"));
            return all;
        }""",
        list(SAMPLE),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    wait_for_redshifts(page)
    assert cells(page, "flags")[0] == "beyond training"
    chip = page.locator("#table td.flags .chip").first
    expect(chip).to_have_attribute("title", f"BEYOND_TRAINING: {FLAG_MEANINGS[Flag.BEYOND_TRAINING]}")
    expect(page.locator("#flags li")).to_have_text([f"BEYOND_TRAINING: {FLAG_MEANINGS[Flag.BEYOND_TRAINING]}"])
    flags = page.locator("#filter-flag option").evaluate_all("options => options.map(({ value }) => value)")
    assert flags == ["any", "none", *(flag.name for flag in Flag), "not predicted"]
    page.get_by_role("button", name="z_mean").click()
    ascending = [float(z) for z in cells(page, "z_mean")]
    assert ascending == sorted(ascending)
    page.get_by_role("button", name="z_mean").click()
    expect(page.get_by_role("columnheader", name="z_mean")).to_have_attribute("aria-sort", "descending")
    assert [float(z) for z in cells(page, "z_mean")] == ascending[::-1]
    page.fill("#filter-low", "0.1")
    expect(page.locator("#count")).to_have_text(f"{sum(z >= 0.1 for z in ascending)} of 8")
    page.fill("#filter-low", "")
    page.fill("#filter-name", names[5])
    expect(page.locator("#table tbody td.object_id")).to_have_text([names[5]])
    page.fill("#filter-name", "")
    page.select_option("#filter-flag", "none")
    expect(page.locator("#count")).to_have_text("7 of 8")
    assert set(cells(page, "flags")) == {""}
    page.select_option("#filter-flag", "any")
    page.get_by_role("row", name=names[2]).click()
    expect(page.locator("#galaxy-name")).to_have_text(names[2])
    expect(page.locator("#pictures canvas")).to_have_count(6)
    expect(page.locator("#values")).to_contain_text(f"{sample['z_spec'][2]:.4f}")


def test_the_plot_is_overlaid_zoomed_read_and_saved(page, sample):
    open_sample(page)
    page.click("#pin")
    page.get_by_role("row", name=sample["object_id"][3]).click()
    expect(page.locator("#pdf polyline")).to_have_count(2)
    page.click("#unpin")
    expect(page.locator("#pdf polyline")).to_have_count(1)
    axes = page.locator("#pdf text")
    before = axes.all_text_contents()
    page.click("#zoom-in")
    expect(axes).not_to_have_text(before)
    page.click("#zoom-all")
    expect(axes).to_have_text(before)
    box = page.locator("#pdf svg").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.2 * box["width"], middle)
    expect(page.locator("#readout")).to_have_text(re.compile(r"^z = 0\.\d{4}, p\(z\) = \d+\.\d\d$"))
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle)
    page.mouse.up()
    expect(axes).not_to_have_text(before)
    name, svg = download(page, "#plot-svg")
    assert (name, svg.startswith(b"<svg"), svg.count(b"<polyline"), b"var(" in svg) == ("pdf.svg", True, 1, False)
    name, png = download(page, "#plot-png")
    with Image.open(io.BytesIO(png)) as image:
        assert (name, image.size) == ("pdf.png", (1280, 600))
        assert len(image.convert("RGB").getcolors(2**24)) > 20


def test_evaluation(page, service_url, sample):
    by_z_spec = sample["object_id"][np.argsort(sample["z_spec"])]
    open_sample(page)
    page.click("#tab-evaluate")
    expect(page.locator("#scores tbody tr")).to_have_count(8)
    scores = ask(service_url, "evaluate")["scores"]
    shown = [float(text) for text in page.locator("#scores tbody td:nth-child(2)").all_inner_texts()]
    assert shown == pytest.approx([score["value"] for score in scores.values()], abs=1e-4)
    page.locator("#scatter").focus()
    page.keyboard.press("ArrowRight")
    chosen = by_z_spec.tolist().index(sample["object_id"][0])
    expect(page.locator("#galaxy-name")).to_have_text(by_z_spec[min(chosen + 1, 7)])
    assert b"<html" in download(page, "#report")[1]


def test_true_redshifts_of_a_second_file(page, sample, tmp_path):
    np.savez(tmp_path / "a.npz", images=sample["images"], object_id=sample["object_id"])
    page.set_input_files("#file", tmp_path / "a.npz")
    wait_for_redshifts(page)
    page.click("#tab-evaluate")
    pd.DataFrame({name: sample[name][:0:-1] for name in ("object_id", "z_spec")}).to_csv(tmp_path / "z.csv")
    np.savez(tmp_path / "z.npz", z_spec=sample["z_spec"])
    left_out = "7 galaxies; 1 without a z_spec on the grid are left out"
    for name, caption in {"z.csv": left_out, "z.npz": "8 galaxies"}.items():
        page.set_input_files("#truth", tmp_path / name)
        expect(page.locator("#scores caption")).to_have_text(caption)


def test_the_model_in_words_and_its_drift(page, card):
    open_sample(page)
    page.click("#tab-model")
    layout = "cutouts of 64x64 pixels of 0.396 arcsec, bands u, g, r, i, z, in nanomaggy"
    score = f"{card.test.scores['this model']['sigma_mad'].value:.4f}"
    for text in (f"{card.name} {card.version}", layout, *card.caveats, score):
        expect(page.locator("#card")).to_contain_text(text)
    expect(page.locator("#card dl").last).to_contain_text(re.compile(r"z_mean\s*0\.\d{3} of [\d,]+ galaxies"))


def test_by_keyboard_alone(page, sample):
    def press_tab_until(condition):
        for _ in range(40):
            if page.evaluate(condition):
                return
            page.keyboard.press("Tab")

    expect(page.locator("#model-name")).to_contain_text("photoz ")
    press_tab_until("document.activeElement.id === 'sample'")
    page.keyboard.press("Enter")
    wait_for_redshifts(page)
    press_tab_until("document.activeElement.tagName === 'TR'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#galaxy-name")).to_have_text(sample["object_id"][2])
    page.keyboard.press("Space")
    page.keyboard.press("End")
    expect(page.locator("#galaxy-name")).to_have_text(sample["object_id"][7])
    expect(page.locator("#pdf polyline")).to_have_count(2)
    page.locator("#tab-redshifts").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#evaluate")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_nothing_serious_is_found_by_axe(open_page, service_url, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = open_page(service_url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    open_sample(page)
    for tab in ("redshifts", "evaluate", "model"):
        page.click(f"#tab-{tab}")
        violations = axe.run(page).response["violations"]
        serious = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
        assert {violation["id"]: [node["html"] for node in violation["nodes"]] for violation in serious} == {}
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_service_with_keys(open_page, start_service, bundle_path, tmp_path):
    (tmp_path / "keys").write_text(f"alice {hashlib.sha256(b'secret').hexdigest()}\n")
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=tmp_path / "keys") as running:
        page = open_page(running.url, r"status of 401")
        expect(page.locator("#error")).to_contain_text("an API key is needed")
        page.fill("#key", "wrong")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_contain_text("unknown API key")
        page.fill("#key", "secret")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_be_hidden()
        expect(page.locator("#answers button")).to_have_count(8)
        open_sample(page)
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        page.reload()
        expect(page.locator("#key")).to_have_value("")


def test_a_service_that_is_busy_and_then_goes_away(open_page, service_url, sample, tmp_path):
    np.save(tmp_path / "many.npy", np.tile(sample["images"], (100, 1, 1, 1)))  # four requests
    page = open_page(service_url, "status of 429", "ERR_CONNECTION")
    expect(page.locator("#answers button")).to_have_count(8)  # which are a request too
    plan, rows, said = ["busy"] * 3 + ["answer"] * 2 + ["go away"], [], []

    def handle(route):
        said.append(page.locator("#status").inner_text())
        step = plan.pop(0) if plan else "answer"
        if step == "busy":
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "it is full"})
        elif step == "go away":
            route.abort("connectionclosed")
        else:
            length = int(route.request.headers["inference-header-content-length"])
            rows.append(json.loads(route.request.post_data_buffer[:length])["inputs"][0]["shape"][0])
            route.continue_()

    page.route("**/infer", handle)
    page.set_input_files("#file", tmp_path / "many.npy")
    expect(page.locator("#error")).to_have_text(
        "408 of 800, stopped: The service does not answer. Is it still running?"
    )
    assert said[1:4] == ["The service is busy: trying again in 1 s."] * 3
    expect(page.locator("#count")).to_have_text("408 of 800")  # those that have arrived are kept
    page.get_by_role("button", name="Continue").click()
    wait_for_redshifts(page, 800)
    expect(page.locator("#forget")).to_be_hidden()  # it is too large to be kept
    assert rows == [204, 204, 204, 188]
    page.locator("#scroller").evaluate("it => it.scrollTop = 1e9")
    expect(page.locator("#table tbody td.object_id").last).to_have_text("799")
    assert page.locator("#table tbody tr").count() < 60
