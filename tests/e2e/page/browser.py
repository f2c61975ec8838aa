"""What the tests of the page share: the browser, and what a user does in it."""

import shutil

import pytest

pytest.importorskip("playwright", reason="needs playwright")
from playwright.sync_api import expect

from tests.running import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SAMPLE = ROOT / "examples" / "cutouts.npz"

MARKS = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs the browser chromium"),
]


def wait_for_redshifts(page, n, timeout=30_000):
    expect(page.locator("#status")).to_contain_text(f"{n:,} redshifts of", timeout=timeout)


def open_file(page, path):
    page.set_input_files("#file", path)


def open_sample(page):
    page.click("#sample")
    wait_for_redshifts(page, 8)


def cells(page, column):
    return page.locator(f"#table tbody td.{column}").all_inner_texts()


def download(page, click):
    with page.expect_download() as started:
        click()
    return started.value
