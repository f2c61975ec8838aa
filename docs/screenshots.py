"""Screenshots of the page, docs/page-*.png: `python docs/screenshots.py`. Needs chromium and playwright."""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from benchmarks.harness.environment import SHIPPED
from benchmarks.harness.processes import running, service

FOLDER = Path(__file__).parent


def take(browser: Browser, url: str, width: int, scheme: str) -> None:
    """Open the sample, select a galaxy and write a screenshot."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(url)
    page.click("#sample")
    page.locator("#plots img").nth(2).wait_for(state="attached")
    page.locator("#table tbody tr").nth(6).click()
    page.wait_for_timeout(500)
    with Image.open(io.BytesIO(page.screenshot(full_page=True))) as image:
        image.quantize(256).save(FOLDER / f"page-{width}-{scheme}.png", optimize=True)
    page.close()


def main() -> None:
    """Write a screenshot for each width and colour scheme."""
    with running(service(SHIPPED)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width in (1440, 390):
            for scheme in ("light", "dark"):
                take(browser, f"http://127.0.0.1:{server.recipe.port}", width, scheme)
        browser.close()


if __name__ == "__main__":
    main()
