"""A browser, and the page of the running service in it."""

import re
import shutil

import numpy as np
import pytest

from tests.running import ROOT

TIMEOUT = 120_000  # ms, for each condition; only a bug reaches it


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or pytest.skip("needs the browser chromium: apt install chromium")
    options = {"executable_path": chromium, "args": ["--no-sandbox"], "timeout": TIMEOUT}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Return a function that opens the page; it must log no errors except the allowed ones, and ask no other host."""
    complaints, patterns = [], []

    def open_page(url, *allowed, **options):
        patterns.extend([*allowed, rf"^({url}|blob:|data:)"])
        page = browser.new_page(**options)
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(url)
        return page

    yield open_page
    assert [text for text in complaints if not any(re.search(pattern, text) for pattern in patterns)] == []


@pytest.fixture
def page(open_page, service_url):
    return open_page(service_url)


@pytest.fixture(scope="session")
def sample():
    with np.load(ROOT / "examples" / "cutouts.npz") as arrays:
        return dict(arrays)
