"""The speed of the page in a browser: `python -m benchmarks.page`. Needs chromium and playwright."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.harness.environment import RESULTS, ROOT, SHIPPED
from benchmarks.harness.processes import running, service
from benchmarks.harness.results import at_most, conclude, reported

# Milliseconds of each frame while the list is scrolled from its beginning to its end within two seconds.
SCROLL = """() => new Promise((resolve) => {
  const list = document.querySelector("#scroller"), began = performance.now(), frames = [];
  let last = began;
  const step = (now) => {
    frames.push(now - last);
    last = now;
    const part = (now - began) / 2000;
    list.scrollTop = part * list.scrollHeight;
    if (part < 1) requestAnimationFrame(step);
    else resolve(frames.slice(1));
  };
  requestAnimationFrame(step);
})"""


def first_use(page: Page, url: str) -> float:
    """Return seconds until the page says which model answers."""
    began = time.perf_counter()
    page.goto(url)
    page.locator("#wanted", has_text="The model takes").wait_for()
    return time.perf_counter() - began


def show(page: Page, file: Path, n: int) -> float:
    """Return seconds from a file to all of its redshifts."""
    began = time.perf_counter()
    page.set_input_files("#file", file)
    page.locator("#status", has_text=f"{n:,} redshifts of").wait_for(timeout=600_000)
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=20_000, help="rows to scroll")
    options = parser.parse_args()
    options.program, options.output = "page", RESULTS / "page.json"
    uses, shown = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(service(SHIPPED)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        url, images = f"http://127.0.0.1:{server.recipe.port}", np.load(ROOT / "examples" / "cutouts.npz")["images"]
        files = {n: Path(folder) / f"{n}.npy" for n in (1000, options.many)}
        for n, file in files.items():
            np.save(file, np.resize(images, (n, *images.shape[1:])))
        for _ in range(options.rounds):
            page = browser.new_page()
            uses.append(first_use(page, url))
            shown.append(show(page, files[1000], 1000))
            page.close()
        page = browser.new_page()
        first_use(page, url)
        seconds = show(page, files[options.many], options.many)
        frames = page.evaluate(SCROLL)
        browser.close()
    results = [
        at_most("seconds until the page can be used", uses, 1.5),
        at_most("seconds until 1,000 cutouts are shown", shown, 10),
        at_most("ms of a frame while the long list is scrolled, 95th percentile", float(np.percentile(frames, 95)), 34),
        reported("seconds until the long list is shown", seconds),
    ]
    return conclude(options, results, {"frames": len(frames)})


if __name__ == "__main__":
    sys.exit(main())
