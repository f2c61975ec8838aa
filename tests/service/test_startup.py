"""Settings from environment variables, and what is checked before a worker starts."""

import logging
import math
import os
import re
import resource
import signal
import socket
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from photoz.errors import InvalidInput
from service import resources, server
from service.cli import main
from service.resources import available_memory
from service.settings import ALLOCATOR, MIB, Settings
from service.startup import worker_environment
from tests.running import ROOT, running_service
from tests.service.helpers import wait_for
from tests.toys import GRID_90, GRIZ


@pytest.fixture(autouse=True)
def _clean_environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PHOTOZ_")}
    with mock.patch.dict(os.environ, kept, clear=True):
        yield


def read(**variables):
    """Read the settings with some more variables; names without their prefix."""
    os.environ.update({f"PHOTOZ_{name}": value for name, value in variables.items()})
    return Settings.from_environment()


def test_settings_are_read_from_the_environment():
    settings = read(MAX_ROWS=" 7 ", BUNDLE="/models/other", CALIBRATION="off", DRAIN_SECONDS="0", MAX_IN_FLIGHT="")
    assert (settings.max_rows, settings.bundle, settings.calibration) == (7, Path("/models/other"), "off")
    assert (settings.drain_seconds, settings.max_in_flight, settings.engine) == (0, 128, "auto")
    names = "MAX_MEMORY", "API_KEY", "PORT_3000_TCP_ADDR", "SERVICE_HOST", "URL", "MAX_ROWS"
    assert read(**dict.fromkeys(names, "7")).misspelt_variables() == {"PHOTOZ_MAX_MEMORY": "PHOTOZ_MAX_MEMORY_BYTES"}


def test_sizes_follow_from_the_memory(monkeypatch):
    for machine, expected in ((100 * MIB, 64 * MIB), (1024 * MIB, 128 * MIB), (9000 * MIB, 1024 * MIB)):
        monkeypatch.setattr("service.settings.available_memory", lambda machine=machine: machine)
        settings = read()
        assert (settings.max_memory_bytes, settings.max_body_bytes) == (expected, expected // 2)
        assert settings.documented_memory_bytes == 550_000_000 + 2 * expected
    assert settings.bundle == ROOT / "models" / "photoz"
    assert read(MAX_MEMORY_BYTES="1000").max_body_bytes == 500
    assert read(MAX_BODY_BYTES="1000").max_body_bytes == 1000
    message = "PHOTOZ_MAX_BODY_BYTES=1001 cannot be used: expected at most PHOTOZ_MAX_MEMORY_BYTES, 1000"
    with pytest.raises(InvalidInput, match=f"^{message}$"):
        read(MAX_BODY_BYTES="1001")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MAX_ROWS", "0", "greater than 0"),
        ("THREADS", "two", "valid integer"),
        ("ENGINE", "abacus", "'openvino-int8'"),
        ("EVALUATION_TIMEOUT", "nan", "finite number"),
        ("REQUEST_TIMEOUT", "1e-9", "greater than or equal to 0.01"),
        ("MAX_HEADER_BYTES", "1", "greater than or equal to 1024"),
        ("MAX_MEMORY_BYTES", "99999999999999999999", "less than or equal to"),
        ("DRAIN_SECONDS", "1e10", "less than or equal to 3600"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("CALIBRATION", "no", "input should be 'on' or 'off'"),
        ("LOG_FORMAT", "xml", "'json'"),
        ("TRUSTED_PROXIES", "10.0.0.1,nginx", "'nginx' does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_unusable_value_is_refused_by_the_name_of_its_variable(name, value, expected):
    with pytest.raises(InvalidInput) as refused:
        read(**{name: value})
    assert re.fullmatch(rf"PHOTOZ_{name}={value} cannot be used: .*{re.escape(expected)}.*", str(refused.value))


QUOTAS = [
    ({}, 4),
    ({"cpu.max": "max 100000"}, 4),
    ({"cpu.max": "210000 100000"}, 3),
    ({"cpu.max": "900000 100000"}, 4),
    ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 4),
    ({"cpu.cfs_quota_us": "75000", "cpu.cfs_period_us": "50000"}, 2),
]


@pytest.mark.parametrize(("files", "cpus"), QUOTAS)
def test_threads_follow_from_the_cpu_quota(monkeypatch, tmp_path, files, cpus):
    """The quota of the cgroup, of version 2 or 1, is rounded up."""
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    versions = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    monkeypatch.setattr("photoz.cpus.CGROUP_CPU", [[tmp_path / name for name in names] for names in versions])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})
    assert (read().threads, read(THREADS="7").threads) == (cpus, 7)


def test_memory_limit_of_the_cgroup(monkeypatch, tmp_path):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(resources, "CGROUP_MEMORY", (tmp_path / "none", limit))
    for text, expected in (("1000000", 1_000_000), ("max", machine), (str(2 * machine), machine)):
        limit.write_text(f"{text}\n")
        assert available_memory() == expected


@pytest.mark.parametrize(("hard", "expected"), [(1024, 896), (100, 1), (9000, 8192), (resource.RLIM_INFINITY, 8192)])
def test_connections_are_limited_by_the_files_that_the_system_allows(monkeypatch, hard, expected):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda of: (64, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *of: limits.append(of))
    assert server.max_connections() == expected
    assert limits == [(resource.RLIMIT_NOFILE, (hard, hard))]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that calls `serve` with more variables; a server that is made ends at once."""
    monkeypatch.setattr("service.logs.configure", lambda log_format: None)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    monkeypatch.setattr(server.multiprocessing, "set_start_method", lambda *_, **__: None)
    monkeypatch.setattr(server, "PhotozServer", mock.Mock())

    def start(host="127.0.0.1", port=0, **variables):
        os.environ.update({"BENTOML_HOME": str(tmp_path / "home")} | {name: str(it) for name, it in variables.items()})
        return CliRunner().invoke(main, ["serve", "--host", host, "--port", str(port)])

    return start


@pytest.fixture(scope="module")
def toy(make_toy_bundle):
    return make_toy_bundle().path


TRACED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"}
UNUSABLE = [
    ({"PHOTOZ_MAX_ROWS": 0}, "PHOTOZ_MAX_ROWS=0 cannot be used: input should be greater than 0"),
    (TRACED | {"OTEL_TRACES_SAMPLER_ARG": "abc"}, "OTEL_TRACES_SAMPLER_ARG=abc cannot be used: expected a number"),
    ({"PHOTOZ_BUNDLE": "/"}, "/ is not a model bundle: it holds no card.json"),
    ({"PHOTOZ_API_KEYS_FILE": " "}, "PHOTOZ_API_KEYS_FILE is empty: unset it to serve without keys, or name"),
    ({"PHOTOZ_API_KEYS_FILE": "/none"}, "PHOTOZ_API_KEYS_FILE=/none cannot be read: "),
    ({"port": 70000}, "cannot listen on 127.0.0.1:70000: bind(): port must be 0-65535."),
    ({"host": "no.such.host.invalid", "port": 3000}, "cannot listen on no.such.host.invalid:3000: "),
]


@pytest.mark.parametrize(("variables", "message"), UNUSABLE)
def test_unusable_configuration_ends_the_start_with_one_line(start, variables, message):
    ended = start(**variables)
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Error: {message}")


def test_service_starts_without_a_command(start, toy):
    start(PHOTOZ_BUNDLE=toy)
    assert CliRunner().invoke(main, []).exit_code == 0
    assert [call.args[:2] for call in server.PhotozServer.call_args_list] == [("127.0.0.1", 0), ("127.0.0.1", 3000)]


def test_port_that_is_taken_is_refused(start):
    """granian would share it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        message = f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        assert start(port=port).stderr == message


def test_folders_are_writable_or_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "bundle_path", lambda tag: tmp_path / tag)
    (tmp_path / "file").write_text("")
    for parent, given, bundle in (("new", "a:1", "a:1"), ("file", "a:1", f"{tmp_path}/a:1"), ("file", "", "")):
        os.environ |= {"BENTOML_HOME": f"{tmp_path}/{parent}/bentoml", "PHOTOZ_BUNDLE": given}
        server._check_folders()
        assert Path(os.environ["BENTOML_HOME"]).is_dir()
        assert (os.environ["BENTOML_HOME"] == f"{tmp_path}/{parent}/bentoml") is (parent == "new")
        assert os.environ["PHOTOZ_BUNDLE"] == bundle  # a tag of the store in the home that is replaced
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"^needs a folder to write to, such as /tmp or TMPDIR: "):
        server._check_folders()


def test_worker_environment(toy, tmp_path, monkeypatch):
    variables = {"PHOTOZ_BUNDLE": os.path.relpath(toy), "MALLOC_ARENA_MAX": "7", "HOME": str(tmp_path), "CI": ""}
    os.environ.update(variables | {"PHOTOZ_LOG_FORMAT": "text"})
    monkeypatch.setattr("service.logs.configure", (configured := []).append)
    chosen = {"PHOTOZ_BUNDLE": str(toy), "PHOTOZ_ENGINE": "openvino-f32"}  # what passed preflight, in place of auto
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # What the operator sets of the allocators counts.
    assert worker_environment() == ALLOCATOR | os.environ | one_thread | chosen
    assert configured == ["text"]
    assert int(ALLOCATOR["MALLOC_TRIM_THRESHOLD_"]) > 0
    assert not (tmp_path / "intel").exists()  # where OpenVINO keeps the id that it reports its use with
    needed = 4 * (8 * math.prod(GRIZ.shape) + 8 * GRID_90.n_bins + 4096)
    os.environ["PHOTOZ_MAX_MEMORY_BYTES"] = str(needed)
    assert worker_environment()["PHOTOZ_MAX_MEMORY_BYTES"] == str(needed)
    os.environ["PHOTOZ_MAX_MEMORY_BYTES"] = str(needed - 1)
    message = f"={needed - 1} cannot be used: one cutout of this model needs {needed:,} bytes"
    with pytest.raises(InvalidInput, match=message):
        worker_environment()


@pytest.mark.parametrize(
    ("host", "keys", "warns"),
    [("0.0.0.0", "", True), ("0.0.0.0", "keys", False), ("127.0.0.9", "", False), ("localhost", "", False)],
)
def test_listening_for_others_without_keys_is_warned_of(start, toy, monkeypatch, caplog, host, keys, warns):
    monkeypatch.setattr(server, "worker_environment", lambda: {"PHOTOZ_BUNDLE": str(toy)})
    monkeypatch.setattr(server.logger, "propagate", True)
    caplog.set_level(logging.WARNING, server.logger.name)
    assert start(host, **({"PHOTOZ_API_KEYS_FILE": keys} if keys else {})).exit_code == 0
    assert server.PhotozServer.call_args.args[:2] == (host, 0)
    assert os.environ["BENTOML_DO_NOT_TRACK"] == "true"
    assert server.PhotozServer.call_args.args[2].bundle == toy
    assert [message[:40] for message in caplog.messages] == ["Listening on 0.0.0.0 without API keys: a"] * warns
    names = [] if host == "0.0.0.0" else list(dict.fromkeys([host, "localhost", "127.0.0.1", "[::1]"]))
    assert os.environ.get("PHOTOZ_ALLOWED_HOSTS", "") == ",".join(names)


def catches_sigterm(service):
    mask = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{service.process.pid}/status").read_text())[1]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1  # else process 1 of a container does not end


@pytest.mark.parametrize("phase", [catches_sigterm, lambda service: service.workers], ids=["at first", "worker"])
def test_sigterm_during_the_start(toy, tmp_path, phase):
    with running_service(tmp_path, ready=False, PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: phase(service))
        service.process.terminate()
        assert service.process.wait(120) == 0
        assert "Traceback" not in service.log.read_text()
