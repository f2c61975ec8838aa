"""A browser, and the page of the running service in it."""

import re

import numpy as np
import pytest

from tests.running import ROOT


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    from tests.e2e.page.browser import CHROMIUM

    with sync_playwright() as playwright:
        yield (chromium := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens the page; it must log no errors except the allowed ones, and ask no other host."""
    contexts, complaints = [], []

    def open_page(url, allowed=(), **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "blob:", "data:")) else complaints.append(request.url),
        )
        page.goto(url)
        page.allowed = allowed
        return page

    yield open_page
    allowed = [pattern for context in contexts for page in context.pages for pattern in page.allowed]
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(re.search(pattern, text) for pattern in allowed)] == []


@pytest.fixture
def page(open_page, service_url):
    return open_page(service_url)


@pytest.fixture(scope="module")
def sample():
    with np.load(ROOT / "examples" / "cutouts.npz") as arrays:
        return dict(arrays)
