"""What the operator can set, and what follows from where the process runs."""

import os

import pytest

from service import machine
from service.machine import available_cpus
from service.settings import Settings

ALL = len(os.sched_getaffinity(0))


@pytest.fixture
def control_group(monkeypatch, tmp_path):
    """Return a function that writes the files of a control group of version 2 or 1, which stand for this process's."""
    v2, v1_quota, v1_period = (tmp_path / name for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"))
    monkeypatch.setattr(machine, "CGROUP_CPU", ((v2,), (v1_quota, v1_period)))

    def write(version, quota, period=100_000):
        if version == 2:
            v2.write_text(f"{quota} {period}\n")
        else:
            v1_quota.write_text(f"{quota}\n")
            v1_period.write_text(f"{period}\n")

    return write


@pytest.fixture
def four_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})


@pytest.mark.parametrize("version", [2, 1])
@pytest.mark.parametrize(
    ("quota", "cpus"), [(10_000, 1), (100_000, 1), (150_000, 2), (200_000, 2), (210_000, 3), (900_000, 4)]
)
def test_a_quota_is_rounded_up_to_whole_cpus(control_group, four_cpus, version, quota, cpus):
    control_group(version, quota)
    assert available_cpus() == cpus


def test_the_period_counts(control_group, four_cpus):
    control_group(2, 150_000, period=50_000)
    assert available_cpus() == 3


@pytest.mark.parametrize(("version", "quota"), [(2, "max"), (1, -1)])
def test_without_a_quota_all_cpus_are_there(control_group, four_cpus, version, quota):
    control_group(version, quota)
    assert available_cpus() == 4


@pytest.mark.usefixtures("control_group")
def test_so_are_they_without_control_groups():
    assert available_cpus() == ALL


def test_the_network_has_as_many_threads_unless_told_otherwise(control_group, four_cpus):
    control_group(2, 300_000)
    assert Settings.from_environment({}).threads == 3
    assert Settings.from_environment({"PHOTOZ_THREADS": "7"}).threads == 7


def test_a_folder_need_not_be_there_yet(tmp_path):
    for path in ("models/none", str(tmp_path / "a:b"), "none"):
        assert str(Settings.from_environment({"PHOTOZ_BUNDLE": path}).bundle) == path
