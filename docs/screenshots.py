"""Screenshots of the page, docs/page-*.png: `python docs/screenshots.py`. Needs chromium and photoz[training]."""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.harness.environment import SHIPPED
from benchmarks.harness.processes import running, service

FOLDER = Path(__file__).parent
NARROW = 390


def write_test_galaxies(folder: Path) -> Path:
    """Draw the galaxies that the shipped model was tested on."""
    drawn, path = folder / "drawn.h5", folder / "test-galaxies.npz"
    subprocess.run([sys.executable, "-m", "training", "sample", drawn], check=True)
    with h5py.File(drawn) as file:
        rows = np.flatnonzero(file["split"].asstr()[:] == "test")
        columns = {name: file[name][:][rows] for name in ("ebv", "z_spec", "ra", "dec")}
        names = file["object_id"].asstr()[:][rows].astype(str)
        np.savez(path, images=file["images"][rows], object_id=names, **columns)
    return path


def open_file(page: Page, path: Path) -> None:
    """Open a file, and wait for all redshifts and scores."""
    page.set_input_files("#file", path)
    page.locator("#scores tbody tr").nth(7).wait_for(state="attached", timeout=120_000)
    page.locator("#table tbody tr").nth(6).click()


def evaluate(page: Page) -> None:
    """Select a galaxy in the scatter plot, and point at another one."""
    page.click("#tab-evaluate")
    box = page.locator("#scatter").bounding_box() or {}
    for share in (0.48, 0.62):
        at = (box["x"] + share * box["width"], box["y"] + (0.96 - share) * box["height"])
        (page.mouse.click if share < 0.5 else page.mouse.move)(*at)
        page.wait_for_timeout(300)


def take(browser: Browser, url: str, name: str, path: Path | None, width: int = 1440, scheme: str = "light") -> None:
    """Write a screenshot: of the first screen, or of a file, under Evaluate if the name says so."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(url)
    page.locator("#answers button").nth(7).wait_for()
    if path is not None:
        open_file(page, path)
    if name in ("evaluate", "1440-dark"):
        evaluate(page)
    page.wait_for_timeout(500)
    with Image.open(io.BytesIO(page.screenshot(full_page=name != "first"))) as image:
        image.quantize(256, kmeans=1).save(FOLDER / f"page-{name}.png", optimize=True)
    page.close()


def main() -> None:
    """Write five screenshots."""
    with tempfile.TemporaryDirectory() as folder, running(service(SHIPPED)) as server, sync_playwright() as playwright:
        path = write_test_galaxies(Path(folder))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        url = f"http://127.0.0.1:{server.recipe.port}"
        take(browser, url, "first", None)
        take(browser, url, "1440-light", path)
        take(browser, url, "evaluate", path)
        take(browser, url, "1440-dark", path, scheme="dark")
        take(browser, url, "390-light", path, width=NARROW)
        browser.close()


if __name__ == "__main__":
    main()
