"""The files of deploy/compose*.yaml agree with each other, with what they mount, and with the service."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import longest_end
from running import ROOT

from service.settings import Limits, Settings

DEPLOY = ROOT / "deploy"
FILES = ("compose.yaml", "compose.keys.yaml", "compose.password.yaml")
SERVICES = ("photoz", "prometheus", "grafana")
DASHBOARD = json.loads((DEPLOY / "grafana" / "photoz.json").read_text(encoding="utf-8"))

VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
SECONDS = {"m": 60, "s": 1}
BYTES = {"m": 2**20, "g": 2**30}


def filled(text: str, **variables: str) -> str:
    """Put in the variables as Compose does, or what is taken without them: itself, for one that has to be set."""
    return VARIABLE.sub(lambda found: variables.get(found[1], found[3] if found[2] == "-" else f"<{found[1]}>"), text)


def read(name: str, **variables: str) -> dict[str, Any]:
    return yaml.safe_load(filled((DEPLOY / name).read_text(encoding="utf-8"), **variables))


def service(name: str, file: str = "compose.yaml") -> dict[str, Any]:
    return read(file)["services"][name]


def measured(text: str, units: dict[str, int]) -> int:
    parts = re.findall(r"(\d+)([a-z])", text)
    assert "".join(map("".join, parts)) == text
    return sum(int(number) * units[unit] for number, unit in parts)


def binds(name: str) -> dict[str, Path]:
    """Return what is mounted from the checkout, by where."""
    found = {}
    for volume in service(name)["volumes"]:
        if isinstance(volume, dict):
            assert volume["read_only"]
            found[volume["target"]] = DEPLOY / volume["source"]
        elif volume.startswith("."):
            source, target, options = volume.split(":")
            assert "ro" in options.split(",")
            found[target] = DEPLOY / source
    return found


def in_the_checkout(name: str, path: str) -> Path:
    """Return the file that a container finds at a path."""
    target = next(target for target in sorted(binds(name), reverse=True) if Path(path).is_relative_to(target))
    return binds(name)[target] / Path(path).relative_to(target)


def provisioned(kind: str) -> dict[str, Any]:
    folder = in_the_checkout("grafana", f"/etc/grafana/provisioning/{kind}")
    (file,) = folder.glob("*.yaml")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def config_of(file: str) -> Path:
    first = service("prometheus", file)["command"][0]
    return in_the_checkout("prometheus", first.removeprefix("--config.file="))


def scrapes(path: Path) -> tuple[dict[str, Any], list[str], str | None]:
    """Return a configuration of Prometheus without its targets and credentials, and these."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (static,) = job["static_configs"]
    return config, static.pop("targets"), job.pop("authorization", {}).get("credentials_file")


def test_the_services_are_those() -> None:
    assert set(read("compose.yaml")["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_it_needs(name: str) -> None:
    container = service(name)
    assert container["read_only"] is True
    assert [mount.split(":")[0] for mount in container["tmpfs"]] == ["/tmp"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert measured(container["mem_limit"], BYTES) > 0
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(container)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_watched_and_started_again(name: str) -> None:
    container = service(name)
    assert container["restart"] == "unless-stopped"
    assert container["healthcheck"]["test"][0] == "CMD"
    assert measured(container["healthcheck"]["timeout"], SECONDS) < measured(
        container["healthcheck"]["interval"], SECONDS
    )
    assert measured(container["stop_grace_period"], SECONDS) > 10  # what is given without it


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("variables", [{}, {"PHOTOZ_PORT": "1", "PROMETHEUS_PORT": "2", "GRAFANA_PORT": "3"}])
def test_ports_are_open_to_this_machine_alone(name: str, variables: dict[str, str]) -> None:
    (port,) = read("compose.yaml", **variables)["services"][name]["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_opened_by_an_address_of_its_own(name: str) -> None:
    opened = read("compose.yaml", **{f"{name.upper()}_ADDRESS": "192.0.2.1"})["services"]
    addresses = {other: opened[other]["ports"][0].split(":")[0] for other in SERVICES}
    assert addresses == {other: "192.0.2.1" if other == name else "127.0.0.1" for other in SERVICES}


def test_no_two_take_the_same_port() -> None:
    assert len({service(name)["ports"][0].split(":")[1] for name in SERVICES}) == len(SERVICES)


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_images_are_pinned(name: str) -> None:
    image = service(name)["image"]
    assert re.fullmatch(r"docker\.io/[\w/]+:v?\d+\.\d+\.\d+", image)
    assert read("compose.yaml", **{f"{name.upper()}_IMAGE": "other"})["services"][name]["image"] == "other"


def test_the_image_of_the_service_is_built_from_the_checkout() -> None:
    assert (DEPLOY / service("photoz")["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    assert binds(name)
    for source in binds(name).values():
        assert source.is_dir()


def test_the_model_is_mounted_where_the_image_has_it() -> None:
    assert in_the_checkout("photoz", "/app/models/photoz/card.json").is_file()
    theirs = read("compose.yaml", PHOTOZ_MODEL_DIR="/mine")["services"]["photoz"]["volumes"][0]
    assert theirs["source"] == "/mine"
    assert theirs["bind"]["create_host_path"] is False


def test_what_is_kept_lies_in_volumes() -> None:
    assert "prometheus:/prometheus" in service("prometheus")["volumes"]
    assert "--storage.tsdb.path=/prometheus" in service("prometheus")["command"]
    assert "grafana:/var/lib/grafana" in service("grafana")["volumes"]
    assert set(read("compose.yaml")["volumes"]) == {"prometheus", "grafana"}


def test_it_has_time_to_finish_what_is_in_flight() -> None:
    assert measured(service("photoz")["stop_grace_period"], SECONDS) > longest_end(Settings())


def test_the_memory_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = measured(service("photoz")["mem_limit"], BYTES)
    monkeypatch.setattr("service.settings.available_memory", lambda: int(memory))
    assert Limits.from_environment({}).expected_memory < memory / 2  # and as much for surprises


@pytest.mark.parametrize("file", FILES[:2])
def test_prometheus_does_what_it_does_without_containers(file: str) -> None:
    config, targets, _ = scrapes(config_of(file))
    assert config == scrapes(DEPLOY / "prometheus" / "prometheus.yaml")[0]
    (target,) = targets
    name, port = target.split(":")
    assert service(name)["ports"][0].endswith(f":{port}")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize(("file", "options"), [(FILES[0], []), (FILES[1], ["--syntax-only"])])  # it has no key here
def test_promtool_finds_nothing_wrong_with_its_configuration(file: str, options: list[str]) -> None:
    command = ["promtool", "check", "config", *options, str(config_of(file))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_keys_are_found_where_they_are_mounted() -> None:
    file = read("compose.keys.yaml")
    photoz, prometheus = file["services"]["photoz"], file["services"]["prometheus"]
    (secret,) = photoz["secrets"]
    assert photoz["environment"] == {"PHOTOZ_API_KEYS_FILE": secret["target"]}
    (key,) = prometheus["secrets"]
    assert scrapes(config_of("compose.keys.yaml"))[2] == f"/run/secrets/{key}"
    assert {name: of["file"] for name, of in file["secrets"].items()} == {
        secret["source"]: "<PHOTOZ_KEYS>",
        key: "<PHOTOZ_PROMETHEUS_KEY>",
    }


def test_prometheus_is_started_alike_with_keys() -> None:
    without, with_keys = (service("prometheus", file)["command"] for file in FILES[:2])
    assert without[1:] == with_keys[1:]
    assert without[0] != with_keys[0]


def test_grafana_takes_the_source_that_the_dashboard_asks_for() -> None:
    (source,) = provisioned("datasources")["datasources"]
    (asked,) = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "datasource"]
    assert source["type"] == asked["query"]
    assert source["isDefault"] is True
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD["panels"]))) == {"${" + asked["name"] + "}"}
    name, port = source["url"].removeprefix("http://").split(":")
    assert service(name)["ports"][0].endswith(f":{port}")


def test_grafana_knows_how_often_is_measured() -> None:
    (source,) = provisioned("datasources")["datasources"]
    config = yaml.safe_load(config_of("compose.yaml").read_text(encoding="utf-8"))
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_grafana_finds_the_dashboard() -> None:
    (provider,) = provisioned("dashboards")["providers"]
    folder = in_the_checkout("grafana", provider["options"]["path"])
    assert list(folder.rglob("*.json")) == [DEPLOY / "grafana" / "photoz.json"]
    home = service("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert in_the_checkout("grafana", home).is_file()


def test_grafana_has_no_password_that_everybody_knows() -> None:
    without = service("grafana")["environment"]
    assert without["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"  # else it makes admin with admin
    assert without["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    file = read("compose.password.yaml")
    grafana = file["services"]["grafana"]
    (secret,) = grafana["secrets"]
    assert file["secrets"][secret]["file"] == "<GRAFANA_PASSWORD>"
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret}"
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_grafana_reports_nothing_to_its_maker() -> None:
    environment = service("grafana")["environment"]
    off = ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES")
    assert {environment[f"GF_ANALYTICS_{name}"] for name in off} == {"false"}
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


@pytest.mark.parametrize("file", FILES)
def test_values_of_environments_are_words(file: str) -> None:
    # Bare true and false are refused by Compose, which cannot know how they were meant.
    for container in read(file)["services"].values():
        assert all(isinstance(value, str) for value in container.get("environment", {}).values())
