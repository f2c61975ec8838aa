"""Settings from environment variables, and the resources that their defaults follow from."""

import os
from pathlib import Path

import pytest

from photoz.errors import InvalidInput
from service.operations import resources
from service.operations.resources import available_memory
from service.operations.settings import MIB, Settings
from tests.running import ROOT


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("PHOTOZ_"):
            monkeypatch.delenv(name)


@pytest.fixture
def read(monkeypatch):
    """Read the settings with some variables; names without their prefix."""

    def read(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"PHOTOZ_{name}", value)
        return Settings.from_environment()

    return read


def test_settings_are_read_from_the_environment(read):
    settings = read(MAX_ROWS=" 7 ", BUNDLE="/models/other", CALIBRATION="off", DRAIN_SECONDS="0", MAX_IN_FLIGHT="")
    assert (settings.max_rows, settings.bundle, settings.calibration) == (7, Path("/models/other"), False)
    assert (settings.drain_seconds, settings.max_in_flight, settings.engine) == (0, 128, "auto")


def test_defaults(read):
    settings = read()
    assert settings.bundle == ROOT / "models" / "photoz"
    assert settings.calibration
    assert not settings.access_log
    assert settings.max_memory_bytes == min(max(available_memory() // 8, 64 * MIB), 1024 * MIB)
    assert settings.max_body_bytes == settings.max_memory_bytes // 2
    assert read(MAX_MEMORY_BYTES="1000").max_body_bytes == 500


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MAX_ROWS", "0", "greater than 0"),
        ("THREADS", "two", "valid integer"),
        ("ENGINE", "abacus", "'openvino-int8'"),
        ("EVALUATION_TIMEOUT", "nan", "finite number"),
        ("REQUEST_TIMEOUT", "inf", "finite number"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("MAX_BODY_BYTES", "2g", "valid integer"),
        ("MAX_MEMORY_BYTES", "-1", "greater than 0"),
        ("CALIBRATION", "no", "expected on or off"),
        ("LOG_FORMAT", "xml", "'json'"),
    ],
)
def test_unusable_value_is_refused_by_the_name_of_its_variable(read, name, value, expected):
    with pytest.raises(InvalidInput) as refused:
        read(**{name: value})
    message = str(refused.value)
    assert message.startswith(f"PHOTOZ_{name}={value} cannot be used: ")
    assert expected in message
    assert "\n" not in message


def test_body_may_not_be_larger_than_all_memory(read):
    assert read(MAX_MEMORY_BYTES="1000", MAX_BODY_BYTES="1000").max_body_bytes == 1000
    expected = "PHOTOZ_MAX_BODY_BYTES=1001 cannot be used: expected at most PHOTOZ_MAX_MEMORY_BYTES, 1000"
    with pytest.raises(InvalidInput, match=expected):
        read(MAX_BODY_BYTES="1001")


@pytest.fixture
def _four_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})


@pytest.mark.usefixtures("_four_cpus")
@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "10000 100000"}, 1),
        ({"cpu.max": "210000 100000"}, 3),
        ({"cpu.max": "150000 50000"}, 3),
        ({"cpu.max": "900000 100000"}, 4),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 4),
        ({"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_threads_follow_from_the_cpu_quota(read, monkeypatch, tmp_path, files, cpus):
    """The quota of the cgroup, of version 2 or 1, is rounded up."""
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    versions = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    monkeypatch.setattr(resources, "CGROUP_CPU", [[tmp_path / name for name in names] for names in versions])
    assert read().threads == cpus
    assert read(THREADS="7").threads == 7


def test_memory_limit_of_the_cgroup(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(resources, "CGROUP_MEMORY", (tmp_path / "none", limit))
    limit.write_text("1000000\n")
    assert available_memory() == 1_000_000
    limit.write_text("max\n")
    assert available_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
