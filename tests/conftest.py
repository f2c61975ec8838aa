"""The shipped bundle, toy bundles, and a running service, shared by the tests that need them."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from photoz.model.bundle import ModelBundle
from photoz.model.card import Card
from photoz_client.cli import main
from tests.running import ROOT, RunningService, running_service

QUICK_SECONDS = 5.0


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests of `make test` that were not quick."""
    calls = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if report.__dict__.get("when") == "call"
    ]
    slow = [report for report in calls if report.duration > QUICK_SECONDS and "acceptance" not in report.keywords]
    if slow:
        terminalreporter.section(f"took more than {QUICK_SECONDS:g} s: make them quicker, or mark them with acceptance")
        for report in sorted(slow, key=lambda report: report.duration, reverse=True):
            terminalreporter.line(f"{report.duration:6.1f} s  {report.nodeid}")


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """Return the bundle under test: the one that ships, or that of PHOTOZ_BUNDLE."""
    return Path(os.environ.get("PHOTOZ_BUNDLE", ROOT / "models" / "photoz"))


@pytest.fixture(scope="session")
def card(bundle_path) -> Card:
    return ModelBundle.load(bundle_path).card


@pytest.fixture(scope="session")
def make_toy_bundle(tmp_path_factory) -> Callable[..., ModelBundle]:
    """Return `tests.toys.write_toy_bundle` with a new folder for each bundle."""
    from tests.toys import write_toy_bundle  # OpenVINO is not needed by every test

    return lambda **parts: write_toy_bundle(tmp_path_factory.mktemp("toy"), **parts)


@pytest.fixture(scope="session")
def service(tmp_path_factory, bundle_path) -> Iterator[RunningService]:
    """Run the bundle under test with default limits; each request gets a line of JSON in the log."""
    variables = {"PHOTOZ_BUNDLE": bundle_path, "PHOTOZ_ACCESS_LOG": "on", "PHOTOZ_LOG_FORMAT": "json"}
    with running_service(tmp_path_factory.mktemp("service"), **variables) as running:
        yield running


@pytest.fixture(scope="session")
def service_url(service) -> str:
    """Return the address of a running service, such as http://127.0.0.1:41234."""
    return service.url


@pytest.fixture(scope="session")
def start_service() -> Callable[..., AbstractContextManager[RunningService]]:
    """Return a function that runs another service: (home, **environment) -> context manager."""
    return running_service


@pytest.fixture
def photoz(capsys):
    """Run the command in this process; returns its exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out, captured.err

    return run
