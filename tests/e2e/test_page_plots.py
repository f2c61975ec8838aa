"""The plots of the page under Evaluate: what they show, how they are linked; by mouse and by keyboard."""

import re

import numpy as np
import pytest

from tests.e2e.test_page import TIMEOUT, ask, open_sample, wait_for_redshifts

pytestmark = pytest.mark.acceptance

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: make acceptance installs it").expect
expect.set_options(timeout=TIMEOUT)

N = 600
CAPTIONS = "#plots figcaption"


@pytest.fixture(scope="module")
def many(sample, tmp_path_factory):
    """Write many galaxies with noise, and true redshifts with scatter."""
    rng, path = np.random.default_rng(2), tmp_path_factory.mktemp("many") / "many.npz"
    rows = rng.integers(0, 8, N)
    images = sample["images"][rows] * rng.uniform(0.7, 1.4, (N, 1, 1, 1)) + rng.normal(0, 0.02, (N, 64, 64, 5))
    z_spec = np.clip(sample["z_spec"][rows] + rng.normal(0, 0.02, N), 0, None)
    np.savez(path, images=images.astype(np.float32), ebv=sample["ebv"][rows], z_spec=z_spec)
    return path


def numbers(page, figure):
    """Return the numbers under a plot."""
    return [float(text) for text in re.findall(r"-?\d\.\d{4}", page.locator(CAPTIONS).nth(figure).inner_text())]


def test_the_plots_do_not_wait_for_the_service_and_agree_with_its_scores(page, service_url, many):
    held = []
    page.route("**/evaluate", lambda route: held.append(route))
    page.set_input_files("#file", many)
    wait_for_redshifts(page, N)
    page.click("#tab-evaluate")
    expect(page.locator(f"{CAPTIONS}:not(:empty)")).to_have_count(4)
    expect(page.locator("#scoring")).to_be_visible()
    expect(page.locator("#scores")).to_be_hidden()
    scores = {name: score["value"] for name, score in ask(service_url, "evaluate", many.read_bytes())["scores"].items()}
    assert numbers(page, 0)[1] == pytest.approx(scores["sigma_mad"], abs=1e-4)
    assert numbers(page, 1) == pytest.approx([scores["pit_ks"]], abs=1e-4)
    assert numbers(page, 2) == pytest.approx([scores["coverage_68"], scores["coverage_95"]], abs=1e-4)
    held[0].continue_()
    expect(page.locator("#scores tbody tr")).to_have_count(8)
    expect(page.locator("#scoring")).to_be_hidden()


def test_dragging_keys_and_flags_choose_which_galaxies_all_plots_show(page, many):
    page.set_input_files("#file", many)
    wait_for_redshifts(page, N)
    page.click("#tab-evaluate")
    in_view, scatter = page.locator("#in-view"), page.locator("#scatter")
    everything = f"{N} of {N} galaxies in view"
    expect(in_view).to_have_text(everything)
    before = [numbers(page, figure) for figure in range(4)]
    box = scatter.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"])
    page.mouse.up()
    expect(in_view).not_to_have_text(everything)
    assert all(numbers(page, figure) != before[figure] for figure in range(4))
    scatter.press("0")
    expect(in_view).to_have_text(everything)
    for zoom_in, zoom_out in ((lambda: scatter.press("+"), lambda: scatter.press("-")),
                              (lambda: page.click("#scatter-in"), lambda: page.click("#scatter-all"))):  # fmt: skip
        zoom_in()
        expect(in_view).not_to_have_text(everything)
        zoom_out()
        expect(in_view).to_have_text(everything)
    page.uncheck("#with-flags")
    expect(in_view).not_to_have_text(everything)
    page.uncheck("#without-flags")
    expect(in_view).to_have_text(f"0 of {N} galaxies in view")
    expect(page.locator("#plots")).to_be_hidden()


def test_a_card_shows_the_galaxy_under_the_pointer_and_a_click_opens_it_beside(page, sample):
    open_sample(page)
    page.click("#tab-evaluate")
    scatter, card = page.locator("#scatter"), page.locator("#scatter .card")
    expect(page.locator("#in-view")).to_have_text("8 of 8 galaxies in view")
    order = sample["object_id"][np.argsort(sample["z_spec"])]
    scatter.press("ArrowLeft")
    scatter.press("ArrowLeft")
    scatter.press("ArrowRight")
    expect(card).to_contain_text(
        re.compile(rf"^{page.locator('#galaxy-name').inner_text()}: z_mean 0\.\d{{4}}, z_spec 0\.\d{{4}}$")
    )
    assert page.locator("#galaxy-name").inner_text() in order
    expect(card.locator("polyline")).to_have_count(1)
    scatter.press("Escape")
    expect(card).to_be_hidden()
    marker = page.locator("#scatter circle").bounding_box()
    chosen = page.locator("#galaxy-name").inner_text()
    scatter.press("ArrowRight")
    expect(page.locator("#galaxy-name")).not_to_have_text(chosen)
    page.mouse.move(marker["x"] + marker["width"] / 2, marker["y"] + marker["height"] / 2)
    expect(card).to_contain_text(f"{chosen}: z_mean")
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#galaxy-name")).to_have_text(chosen)
    pane, plot = page.locator("#galaxy").bounding_box(), scatter.bounding_box()
    assert pane["x"] > plot["x"] + plot["width"]  # beside it
    assert pane["y"] < plot["y"] + plot["height"]
    page.click("#tab-redshifts")
    expect(page.locator("#results #galaxy")).to_be_visible()


def test_a_file_without_true_redshifts_shows_no_evaluation_of_the_file_before(page, sample, tmp_path):
    open_sample(page)
    page.click("#tab-evaluate")
    expect(page.locator("#evaluation")).to_be_visible()
    np.save(tmp_path / "a.npy", sample["images"][:3])
    page.set_input_files("#file", tmp_path / "a.npy")
    wait_for_redshifts(page, 3)
    expect(page.locator("#evaluation")).to_be_hidden()
