"""The speed of the page in a browser: `python -m benchmarks.page`. Needs chromium and playwright."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, Response, sync_playwright

from benchmarks.harness.environment import RESULTS, ROOT, SHIPPED
from benchmarks.harness.processes import running, service
from benchmarks.harness.results import at_most, conclude, reported

PAGE = ("/ui", ".js", ".css", ".svg")  # ends of the addresses of its files

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


def write_cutouts(folder: Path, numbers: Iterable[int]) -> dict[int, Path]:
    """Write files of the sample's galaxies, each repeated, with their true redshifts."""
    sample, files = np.load(ROOT / "examples" / "cutouts.npz"), {n: folder / f"{n}.npz" for n in numbers}
    for n, file in files.items():
        np.savez(file, **{name: np.resize(sample[name], (n, *sample[name].shape[1:])) for name in ("images", "z_spec")})
    return files


def first_use(page: Page, url: str) -> tuple[float, float]:
    """Return seconds until the page says which model answers, and kB of the files of the page until then."""
    files: list[Response] = []
    page.on("response", lambda answer: files.append(answer) if answer.url.endswith(PAGE) else None)
    began = time.perf_counter()
    page.goto(url)
    page.locator("#wanted", has_text="The model takes").wait_for()
    return time.perf_counter() - began, sum(len(file.body()) for file in files) / 1e3


def show(page: Page, file: Path, n: int) -> float:
    """Return seconds from a file to all of its redshifts."""
    began = time.perf_counter()
    page.set_input_files("#file", file)
    page.locator("#status", has_text=f"{n:,} redshifts of").wait_for(timeout=600_000)
    return time.perf_counter() - began


def draw_plots(page: Page) -> float:
    """Return seconds until the plots of an evaluation are drawn."""
    began = time.perf_counter()
    page.click("#tab-evaluate")
    page.locator("#plots figcaption:not(:empty)").nth(3).wait_for()
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=20_000, help="rows to scroll")
    options = parser.parse_args()
    options.program, options.output = "page", RESULTS / "page.json"
    uses, sizes, shown, drawn = [], [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        running(service(SHIPPED)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        url = f"http://127.0.0.1:{server.recipe.port}"
        files = write_cutouts(Path(folder), (1000, 2000, options.many))
        for _ in range(options.rounds):
            page = browser.new_page()
            seconds, size = first_use(page, url)
            uses.append(seconds)
            sizes.append(size)
            shown.append(show(page, files[1000], 1000))
            show(page, files[2000], 2000)
            drawn.append(draw_plots(page))
            page.close()
        page = browser.new_page()
        first_use(page, url)
        seconds = show(page, files[options.many], options.many)
        frames = page.evaluate(SCROLL)
        browser.close()
    results = [
        at_most("seconds until the page can be used", uses, 0.5),
        at_most("kB of its files until then", sizes, 120),
        at_most("seconds until 1,000 cutouts are shown", shown, 2),
        at_most("seconds until the plots of 2,000 galaxies are drawn", drawn, 2),
        at_most("ms of a frame while the long list is scrolled, 95th percentile", float(np.percentile(frames, 95)), 34),
        reported("seconds until the long list is shown", seconds),
    ]
    return conclude(options, results, {"frames": len(frames)})


if __name__ == "__main__":
    sys.exit(main())
