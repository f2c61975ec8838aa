"""Settings from environment variables, and what is checked before a worker starts."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from photoz.errors import InvalidInput
from service import resources, server
from service.resources import available_memory
from service.settings import MIB, Settings
from service.startup import worker_environment
from tests.running import ROOT, run_serve, running_service
from tests.service.helpers import wait_for


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PHOTOZ_")]:
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
    assert (settings.max_rows, settings.bundle, settings.calibration) == (7, Path("/models/other"), "off")
    assert (settings.drain_seconds, settings.max_in_flight, settings.engine) == (0, 128, "auto")


def test_defaults(read):
    settings = read()
    assert settings.bundle == ROOT / "models" / "photoz"
    assert settings.max_memory_bytes == min(max(available_memory() // 8, 64 * MIB), 1024 * MIB)
    assert settings.max_body_bytes == settings.max_memory_bytes // 2
    assert read(MAX_MEMORY_BYTES="1000").max_body_bytes == 500


def test_misspelt_variables_are_found(read):
    names = "MAX_MEMORY", "API_KEY", "PORT_3000_TCP_ADDR", "SERVICE_HOST", "URL", "MAX_ROWS"
    assert read(**dict.fromkeys(names, "7")).misspelt_variables() == {"PHOTOZ_MAX_MEMORY": "PHOTOZ_MAX_MEMORY_BYTES"}


def test_empty_name_of_the_key_file_is_refused(read):
    with pytest.raises(InvalidInput, match="PHOTOZ_API_KEYS_FILE is empty: unset it to serve without keys"):
        read(API_KEYS_FILE=" ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MAX_ROWS", "0", "greater than 0"),
        ("THREADS", "two", "valid integer"),
        ("ENGINE", "abacus", "'openvino-int8'"),
        ("EVALUATION_TIMEOUT", "nan", "finite number"),
        ("REQUEST_TIMEOUT", "inf", "finite number"),
        ("REQUEST_TIMEOUT", "1e-9", "greater than or equal to 0.01"),
        ("MAX_HEADER_BYTES", "1", "greater than or equal to 1024"),
        ("MAX_MEMORY_BYTES", "99999999999999999999", "less than or equal to"),
        ("DRAIN_SECONDS", "1e10", "less than or equal to 3600"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("MAX_BODY_BYTES", "2g", "valid integer"),
        ("MAX_MEMORY_BYTES", "-1", "greater than 0"),
        ("CALIBRATION", "no", "input should be 'on' or 'off'"),
        ("LOG_FORMAT", "xml", "'json'"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("TRUSTED_PROXIES", "10.0.0.1,nginx", "'nginx' does not appear to be an IPv4 or IPv6 network"),
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


@pytest.fixture(scope="module")
def toy(make_toy_bundle):
    return make_toy_bundle().path


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PHOTOZ_MAX_ROWS": 0}, "PHOTOZ_MAX_ROWS=0 cannot be used: input should be greater than 0"),
        ({"PHOTOZ_TRUSTED_PROXIES": "all"}, "PHOTOZ_TRUSTED_PROXIES=all cannot be used: 'all' does not appear to be"),
        (
            {"PHOTOZ_MAX_MEMORY_BYTES": 1000},
            "PHOTOZ_MAX_MEMORY_BYTES=1000 cannot be used: one cutout of this model needs ",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_TRACES_SAMPLER_ARG": "abc"},
            "OTEL_TRACES_SAMPLER_ARG=abc cannot be used: expected a number from 0 to 1",
        ),
        ({"PHOTOZ_BUNDLE": "/"}, "/ is not a model bundle: it holds no card.json"),
        ({"PHOTOZ_API_KEYS_FILE": "/none"}, "PHOTOZ_API_KEYS_FILE=/none cannot be read: "),
        ({"PHOTOZ_BUNDLE": "toy:1", "BENTOML_HOME": "/dev/null/home"}, "the model store: "),
    ],
)
def test_unusable_configuration_ends_the_start_with_one_line(tmp_path, variables, message):
    ended = run_serve(tmp_path, **variables)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Error: {message}")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("[" * 200_000, "cannot be read: "),
        ("{}", "has schema version None; expected 3"),
        ('{"schema_version": 3}', "does not follow schema version 3: name: Field required"),
        (r'{"schema_version": 3, "name": "a\r\nb"}', "does not follow schema version 3: name: String should match"),
    ],
    ids=["nested", "empty", "without fields", "name"],
)
def test_unusable_card_ends_the_start_with_one_line(tmp_path, card, message):
    (tmp_path / "card.json").write_text(card)
    ended = run_serve(tmp_path, PHOTOZ_BUNDLE=tmp_path)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"Error: {tmp_path}/card.json {message}")


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("no.such.host.invalid", 3000), ("192.0.2.1", 3000)])
def test_unusable_address(host, port):
    with pytest.raises(OSError, match=rf"^cannot listen on {host}:{port}: "):
        server._check_port(host, port)


def test_no_folder_to_write_to(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"^needs a folder to write to, such as /tmp or TMPDIR: "):
        server._check_folders()


@pytest.mark.parametrize(("parent", "kept"), [("folder", True), ("file", False)])
def test_home_that_cannot_be_written_to_is_replaced(tmp_path, monkeypatch, parent, kept):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    home = tmp_path / parent / "bentoml"
    monkeypatch.setenv("BENTOML_HOME", str(home))
    server._check_folders()
    assert Path(os.environ["BENTOML_HOME"]).is_dir()
    assert (os.environ["BENTOML_HOME"] == str(home)) is kept


def test_worker_environment(toy, tmp_path, monkeypatch):
    variables = {"PHOTOZ_BUNDLE": os.path.relpath(toy), "MALLOC_ARENA_MAX": "7", "HOME": str(tmp_path), "CI": ""}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("service.logs.configure", lambda log_format: None)
    environment = worker_environment()
    assert environment["PHOTOZ_BUNDLE"] == str(toy)
    assert environment["PHOTOZ_ENGINE"] == "openvino-f32"  # what passed preflight, in place of auto
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MALLOC_ARENA_MAX"] == "7"  # what the operator sets counts
    assert int(environment["MALLOC_TRIM_THRESHOLD_"]) > 0
    assert not (tmp_path / "intel").exists()  # where OpenVINO keeps the id that it reports its use with


def test_listening_on_all_interfaces_without_keys_is_warned_of(toy, tmp_path):
    with running_service(tmp_path, host="0.0.0.0", PHOTOZ_BUNDLE=toy) as service:
        wait_for(lambda: "Listening on 0.0.0.0 without API keys: anyone who can reach" in service.log.read_text())


@pytest.mark.parametrize("delay", [None, 0.0, 0.2, 0.5])  # seconds after the start of the worker, which needs one
def test_sigterm_during_the_start(toy, tmp_path, delay):
    with running_service(tmp_path, ready=False, PHOTOZ_BUNDLE=toy) as service:
        time.sleep(0.5)  # the imports take longer, but without a handler process 1 of a container does not end
        if delay is not None:
            wait_for(lambda: service.workers)
            time.sleep(delay)
        service.process.terminate()
        assert service.process.wait(20) == 0
        assert "Traceback" not in service.log.read_text()
