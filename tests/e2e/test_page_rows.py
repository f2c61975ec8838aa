"""The rows of the page in a browser: cutouts that cannot be predicted, names and files of other names."""

import io
import re
from contextlib import nullcontext

import h5py
import numpy as np
import pandas as pd
import pytest

from photoz.io.npz import npz_bytes
from tests.e2e.test_page import ask, cells, download, expect, open_sample, wait_for_redshifts
from tests.running import ROOT
from tests.toys import GRIZ, galaxies

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_cutouts_that_cannot_be_predicted_are_rows_with_a_reason(open_page, service_url, sample, tmp_path, suffix):
    many = {name: np.concatenate([values] * 63)[:500] for name, values in sample.items()}
    many |= {"object_id": np.arange(10**18, 10**18 + 500), "images": many["images"].astype(np.float64)}
    many["images"][[300, 301]] = np.nan
    many["images"][302, ..., 0] = np.nan  # one band, which is only flagged
    many["images"][7] = 1e300  # beyond single precision
    many["images"][9] = 3e38
    many["ebv"][499] = -1.0
    path = tmp_path / f"many.{suffix}"
    with h5py.File(path, "w") if suffix == "h5" else nullcontext() as file:
        file.update(many) if file else np.savez(path, **many)
    page = open_page(service_url, "status of 400")
    page.set_input_files("#file", path)
    expect(page.locator("#status")).to_contain_text(f"495 redshifts of many.{suffix}. 5 not predicted: flags say why.")
    page.select_option("#filter-flag", "not predicted")
    expect(page.locator("#count")).to_have_text("5 of 500")
    overflow = "NaN for the galaxy: its pixel values overflow the network; mask such pixels with NaN"
    reddening = "E(B-V) of -1 mag, not 0 to 10"
    reasons = ["no finite pixel", overflow, "no finite pixel", "no finite pixel", reddening]
    assert cells(page, "flags") == [f"{reason}: not predicted" for reason in reasons]
    assert cells(page, "object_id") == [str(10**18 + row) for row in (7, 9, 300, 301, 499)]
    assert set(cells(page, "z_mean")) == {""}
    page.get_by_role("row", name=str(10**18 + 300)).click()
    expect(page.locator("#flags li")).to_have_text("no finite pixel: not predicted")
    page.click("#tab-evaluate")
    expect(page.locator("#scores caption")).to_contain_text("495 galaxies; 5 without")
    page.click("#tab-redshifts")
    table = pd.read_csv(io.BytesIO(download(page, "[data-format=csv]")[1]))
    good = np.delete(np.arange(500), [7, 9, 300, 301, 499])
    assert table["object_id"].tolist() == many["object_id"][good].tolist()
    few = good[299:303]
    expected = ask(service_url, "predict_file", npz_bytes({name: values[few] for name, values in many.items()}))
    np.testing.assert_allclose(table["z_mean"][299:303], expected["z_mean"], atol=1e-6)
    page.set_input_files("#file", ROOT / "examples" / "cutouts.npz")
    expect(page.locator("#count")).to_have_text("8 of 8")  # the filter is that of the other file


def test_names_are_whole_and_can_be_copied(browser, service_url, sample, tmp_path):
    names = np.array([f"SDSS J{row:02d}2345.67+012345.6 of a field with a long name" for row in range(8)])
    np.savez(tmp_path / "a.npz", images=sample["images"], object_id=names)
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(service_url)
    page.set_input_files("#file", tmp_path / "a.npz")
    wait_for_redshifts(page)
    for div in page.locator("#table td.object_id div").all():
        assert div.evaluate("it => it.scrollHeight <= it.clientHeight && it.scrollWidth <= it.clientWidth")
    assert "monospace" in page.locator("#table td.object_id").first.evaluate("it => getComputedStyle(it).fontFamily")
    page.get_by_role("row", name=names[3]).click()
    page.click("#copy-name")
    assert page.evaluate("navigator.clipboard.readText()") == names[3]
    context.close()


def test_a_second_file_with_other_names_is_refused(open_page, service_url, sample, tmp_path):
    page = open_page(service_url, "None of the")
    open_sample(page)
    page.click("#tab-evaluate")
    pd.DataFrame({"object_id": ["a", "b"], "z_spec": [0.1, 0.2]}).to_csv(tmp_path / "z.csv", index=False)
    page.set_input_files("#truth", tmp_path / "z.csv")
    said = (
        f"None of the 2 names of z.csv is in this table; its first is a, the table's first is {sample['object_id'][0]}."
    )
    expect(page.locator("#error")).to_have_text(said)


def test_dragging_over_the_histogram_filters_by_redshift_and_a_click_shows_all(page, sample):
    open_sample(page)
    histogram, low, high = page.locator("#histogram svg"), page.locator("#filter-low"), page.locator("#filter-high")
    expect(histogram.locator("path[d]:not([d=''])")).to_have_count(4)  # bars of all and of those in range, p(z), axes
    box = histogram.bounding_box()

    def drag(first, last):
        for share, press in ((first, page.mouse.down), (last, page.mouse.up)):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 3)
            press()

    drag(0.05, 0.4)
    z = np.array(cells(page, "z_mean"), np.float64)
    limits = [float(end.input_value()) for end in (low, high)]
    assert limits[0] == 0.0
    assert 0.1 < limits[1] < 0.2
    assert 0 < len(z) < len(sample["object_id"])
    assert ((z >= limits[0]) & (z <= limits[1])).all()
    expect(page.locator("#count")).to_have_text(f"{len(z)} of 8")
    assert f"to={limits[1]:.3f}" in page.url
    drag(0.3, 0.3)
    expect(page.locator("#count")).to_have_text("8 of 8")
    expect(low).to_have_value("")


def test_columns_are_chosen_and_kept_and_positions_have_links(page, sample, tmp_path):
    ra, dec = np.linspace(150.0, 150.7, 8), np.linspace(-1.0, 1.0, 8)
    np.savez(tmp_path / "a.npz", **sample, ra=ra, dec=np.where(np.arange(8) == 3, np.nan, dec))
    page.set_input_files("#file", tmp_path / "a.npz")
    wait_for_redshifts(page)
    heads = page.locator("#table th")
    usual = ["image", "name", "z_mean", "68 % interval", "odds", "z_spec", "flags", "ra", "dec"]
    expect(heads).to_have_text(usual)
    assert [float(text) for text in cells(page, "ra")] == pytest.approx(ra, abs=1e-5)
    links = page.locator("#links a")
    expect(links).to_have_text(["Legacy Surveys", "SkyServer", "Aladin Lite"])
    for link in links.all():
        assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noreferrer", "_blank")
        assert "150.000000" in link.get_attribute("href")
        assert "-1.000000" in link.get_attribute("href")
    page.locator("#table tbody tr[aria-rowindex='5']").click()  # whose position is not known
    expect(links).to_have_count(0)
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="dec").uncheck()
    page.get_by_role("checkbox", name="z_std").check()
    expect(heads).to_have_text([*usual[:3], "z_std", *usual[3:8]])
    page.reload()
    open_sample(page)
    expect(heads).to_have_text([*usual[:3], "z_std", *usual[3:7]])
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="dz").check()
    page.get_by_role("button", name="dz").click(click_count=2)  # the worst first
    dz = [
        (float(z) - float(true)) / (1 + float(true))
        for z, true in zip(cells(page, "z_mean"), cells(page, "z_spec"), strict=True)
    ]
    assert [float(text) for text in cells(page, "dz")] == pytest.approx(dz, abs=2e-4)
    assert dz == sorted(dz, key=abs, reverse=True)


def test_a_service_that_dies_leaves_what_has_arrived(open_page, start_service, make_toy_bundle, tmp_path):
    np.save(tmp_path / "a.npy", np.tile(galaxies(GRIZ, 10).astype(np.float16), (4000, 1, 1, 1)))
    with start_service(tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path) as running:
        page = open_page(running.url, "net::ERR_")
        page.set_input_files("#file", tmp_path / "a.npy")
        expect(page.locator("#count")).to_have_text(re.compile(r" of 40,000$"))
        for process in (running.process, *running.workers):
            process.kill()
        stopped = re.compile(r"^([\d,]+) of 40,000, stopped: The service does not answer. Is it still running\?$")
        expect(page.locator("#error")).to_have_text(stopped)
        n = stopped.match(page.locator("#error").inner_text())[1]
        expect(page.locator("#count")).to_have_text(f"{n} of 40,000")
        expect(page.locator("#download-rows option").first).to_have_text(f"all {n}")
        expect(page.get_by_role("button", name="Continue")).to_be_visible()


def test_estimates_of_two_models_are_not_mixed(page, card, sample, tmp_path):
    np.save(tmp_path / "a.npy", np.tile(sample["images"], (50, 1, 1, 1)))  # two requests
    asked = []

    def handle(route):
        asked.append(route)
        answer = route.fetch()
        body = answer.body().replace(card.version.encode(), card.version[::-1].encode(), len(asked) - 1)
        route.fulfill(response=answer, body=body)

    expect(page.locator("#answers button")).to_have_count(8)  # which are a request too
    page.route("**/infer", handle)
    page.set_input_files("#file", tmp_path / "a.npy")
    said = f"The service now has another model, version {card.version[::-1]}. Load the page and the file again."
    expect(page.locator("#error")).to_have_text(f"204 of 400, stopped: {said}")
    expect(page.locator("#retry")).to_be_hidden()


def test_a_file_of_which_no_cutout_can_be_predicted(open_page, service_url, sample, tmp_path):
    np.savez(tmp_path / "a.npz", **sample | {"ebv": np.full(8, -99.0)})
    page = open_page(service_url, "status of 400")
    page.set_input_files("#file", tmp_path / "a.npz")
    expect(page.locator("#status")).to_have_text("0 redshifts of a.npz. 8 not predicted: flags say why.")
    assert cells(page, "flags") == ["E(B-V) of -99 mag, not 0 to 10: not predicted"] * 8
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("[data-format=csv]")).to_be_disabled()
    expect(page.locator("#flags li")).to_have_text("E(B-V) of -99 mag, not 0 to 10: not predicted")
    assert "1.0" in page.locator("#pdf text").all_text_contents()  # the axis of an empty plot can be read
