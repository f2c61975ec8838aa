"""deploy/compose*.yaml agree with each other, with the files they mount, and with the service."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import longest_shutdown, read_settings
from tests.deploy.nginx import read_defaults
from tests.running import ROOT

DEPLOY = ROOT / "deploy"
FILES = BASE, WITH_KEYS, WITH_PASSWORD = "compose.yaml", "compose.keys.yaml", "compose.password.yaml"
PUBLISHED = {"nginx": "PHOTOZ", "prometheus": "PROMETHEUS", "grafana": "GRAFANA"}  # and the prefixes of their variables
SERVICES = ("photoz", *PUBLISHED)
DASHBOARD = json.loads((DEPLOY / "grafana" / "photoz.json").read_text(encoding="utf-8"))

VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


def read(file=BASE, **variables):
    """Read a file with variables replaced as Compose does; one that is required becomes its name in brackets."""

    def value(found):
        return variables.get(found[1], found[3] if found[2] == "-" else f"<{found[1]}>")

    return yaml.safe_load(VARIABLE.sub(value, (DEPLOY / file).read_text(encoding="utf-8")))


def service(name, file=BASE, **variables):
    return read(file, **variables)["services"][name]


def seconds(text):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups("0")
    return 60 * int(minutes) + int(rest)


def memory_bytes(container):
    return int(container["mem_limit"][:-1]) * {"m": 2**20, "g": 2**30}[container["mem_limit"][-1]]


def binds(name):
    """Return the folders of the checkout that a container mounts, by their path in it."""
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


def host_path(name, path):
    """Return the file of the checkout that a container has at a path."""
    target = next(target for target in sorted(binds(name), reverse=True) if Path(path).is_relative_to(target))
    return binds(name)[target] / Path(path).relative_to(target)


def prometheus_config(file):
    return host_path("prometheus", service("prometheus", file)["command"][0].removeprefix("--config.file="))


def split_config(path):
    """Return a configuration of Prometheus without its target and credentials, and these two."""
    config = yaml.safe_load(path.read_text())
    (job,) = config["scrape_configs"]
    (target,) = job.pop("static_configs")[0]["targets"]
    return config, target, job.pop("authorization", {}).get("credentials_file")


def listens(address):  # such as prometheus:9090
    name, port = address.split(":")
    container = service(name)
    return (container.get("ports") or container["expose"])[0].split(":")[-1] == port


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_confined_and_restarted(name):
    container, health = service(name), service(name)["healthcheck"]
    assert container["read_only"] is True
    assert [mount.split(":")[0] for mount in container["tmpfs"]] == ["/tmp"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert memory_bytes(container) > 0
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(container)
    assert container["restart"] == "unless-stopped"
    assert health["test"][0] == "CMD"
    assert seconds(health["timeout"]) < seconds(health["interval"])
    assert seconds(container["stop_grace_period"]) > 10  # the default


def test_ports_are_published_on_the_loopback_address():
    assert set(read()["services"]) == set(SERVICES)
    assert "ports" not in service("photoz")  # clients connect to nginx
    for variables in ({}, {"PHOTOZ_PORT": "1", "PROMETHEUS_PORT": "2", "GRAFANA_PORT": "3"}):
        published = [service(name, **variables)["ports"][0] for name in PUBLISHED]
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
        assert len({port.split(":")[1] for port in published}) == len(PUBLISHED)
    for name, prefix in PUBLISHED.items():  # an address variable publishes one of them elsewhere
        published = [service(other, **{f"{prefix}_ADDRESS": "192.0.2.1"})["ports"][0] for other in PUBLISHED]
        assert [port.startswith("192.0.2.1:") for port in published] == [other == name for other in PUBLISHED]


def test_images_are_built_or_pinned():
    assert (DEPLOY / service("photoz")["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    for name in PUBLISHED:
        assert re.fullmatch(r"docker\.io/[\w/-]+:v?\d+\.\d+\.\d+", service(name)["image"])
        assert service(name, **{f"{name.upper()}_IMAGE": "other"})["image"] == "other"


def test_mounted_folders_exist_and_data_are_in_volumes():
    assert all(source.is_dir() for name in SERVICES for source in binds(name).values())
    assert host_path("photoz", "/app/models/photoz/card.json").is_file()  # as in the image
    volume = service("photoz", PHOTOZ_MODEL_DIR="/mine")["volumes"][0]
    assert (volume["source"], volume["bind"]["create_host_path"]) == ("/mine", False)
    assert "prometheus:/prometheus" in service("prometheus")["volumes"]
    assert "--storage.tsdb.path=/prometheus" in service("prometheus")["command"]
    assert "grafana:/var/lib/grafana" in service("grafana")["volumes"]


def test_memory_and_grace_period_fit_the_settings():
    memory = memory_bytes(service("photoz"))
    settings = read_settings({"PHOTOZ_MAX_MEMORY_BYTES": str(memory // 8)})  # the default in such a container
    assert settings.documented_memory_bytes < memory / 2  # the other half is a reserve
    assert seconds(service("photoz")["stop_grace_period"]) > longest_shutdown(settings)
    assert seconds(service("nginx")["stop_grace_period"]) > longest_shutdown(settings)


def test_nginx_has_the_limits_of_the_service():
    settings = read_settings({"PHOTOZ_MAX_MEMORY_BYTES": str(memory_bytes(service("photoz")) // 8)})
    defaults = read_defaults()
    limits = {name: value for name, value in defaults.items() if name.startswith("PHOTOZ_")}
    assert limits == {name: f"{getattr(settings, name.removeprefix('PHOTOZ_').lower()):.0f}" for name in limits}
    assert listens(defaults["NGINX_UPSTREAM"])
    assert listens(f"nginx:{defaults['NGINX_LISTEN'].split(':')[1]}")
    template = (DEPLOY / "nginx" / "photoz.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)\}", template)) == defaults.keys()
    assert f"at most {settings.max_header_bytes:,} bytes" in template


def test_nginx_and_the_service_read_the_same_settings():
    own, shared = service("nginx")["env_file"]
    assert host_path("nginx", "/etc/nginx/templates/photoz.conf").is_file()
    assert (DEPLOY / own["path"]).is_file()
    assert [shared] == service("photoz")["env_file"]  # the last file takes precedence
    assert "nginx:/var/cache/nginx" in service("nginx")["volumes"]
    assert "PHOTOZ_TRUSTED_PROXIES" in service("photoz")["environment"]


@pytest.mark.parametrize(("file", "options"), [(BASE, []), (WITH_KEYS, ["--syntax-only"])])  # it has no key here
def test_prometheus_is_configured_as_without_containers(file, options):
    path = prometheus_config(file)
    config, target, _ = split_config(path)
    assert config == split_config(DEPLOY / "prometheus" / "prometheus.yaml")[0]
    assert listens(target)
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "config", *options, path], timeout=60, check=True)


def test_key_files_are_mounted_where_they_are_read():
    file = read(WITH_KEYS)
    photoz, prometheus = file["services"]["photoz"], file["services"]["prometheus"]
    (secret,), (key,) = photoz["secrets"], prometheus["secrets"]
    assert photoz["environment"] == {"PHOTOZ_API_KEYS_FILE": secret["target"]}
    assert split_config(prometheus_config(WITH_KEYS))[2] == f"/run/secrets/{key}"
    files = {name: content["file"] for name, content in file["secrets"].items()}
    assert files == {secret["source"]: "<PHOTOZ_KEYS>", key: "<PHOTOZ_PROMETHEUS_KEY>"}
    assert prometheus["command"][1:] == service("prometheus")["command"][1:]


def test_grafana_loads_the_dashboard_and_its_data_source():
    provisioning = host_path("grafana", "/etc/grafana/provisioning/datasources").parent
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "datasource"]
    assert (source["type"], source["isDefault"]) == (variable["query"], True)
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(DASHBOARD["panels"]))) == {"${" + variable["name"] + "}"}
    assert listens(source["url"].removeprefix("http://"))
    config, _, _ = split_config(prometheus_config(BASE))
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "photoz.yaml").read_text())["providers"]
    folder = host_path("grafana", provider["options"]["path"])
    assert list(folder.rglob("*.json")) == [DEPLOY / "grafana" / "photoz.json"]
    home = service("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert host_path("grafana", home).is_file()


def test_grafana_has_no_default_password_and_sends_no_reports():
    environment, with_password = service("grafana")["environment"], service("grafana", WITH_PASSWORD)
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"  # otherwise admin, password admin
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    off = ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES")
    assert {environment[f"GF_ANALYTICS_{name}"] for name in off} == {"false"}
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    (secret,) = with_password["secrets"]
    assert read(WITH_PASSWORD)["secrets"][secret]["file"] == "<GRAFANA_PASSWORD>"
    assert with_password["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret}"
    assert with_password["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_environment_values_are_strings():
    for container in (one for file in FILES for one in read(file)["services"].values()):
        # Compose refuses bare true and false.
        assert all(isinstance(value, str) for value in container.get("environment", {}).values())
