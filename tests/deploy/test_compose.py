"""deploy/compose*.yaml agree with each other, with the files they mount, and with the service."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from service.settings import Settings
from tests.deploy.nginx import read_defaults
from tests.running import ROOT

DEPLOY = ROOT / "deploy"
FILES = BASE, WITH_KEYS, WITH_PASSWORD = "compose.yaml", "compose.keys.yaml", "compose.password.yaml"
PUBLISHED = {"nginx": "PHOTOZ", "prometheus": "PROMETHEUS", "grafana": "GRAFANA"}  # and the prefixes of their variables
SERVICES = ("photoz", *PUBLISHED)
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


@cache
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


def host_path(name, path):
    """Return the file of the checkout that a container has at a path: all mounts of the checkout are read-only."""
    for volume in service(name)["volumes"]:
        if isinstance(volume, dict):
            source, target, options = volume["source"], volume["target"], "ro" if volume["read_only"] else ""
        else:
            source, target, options = f"{volume}::".split(":")[:3]
        if source.startswith(".") and Path(path).is_relative_to(target):
            assert "ro" in options.split(",")
            return DEPLOY / source / Path(path).relative_to(target)
    raise AssertionError(f"{name} does not mount {path}")


def prometheus_config(file):
    """Return a configuration of Prometheus without its target and credentials, and these two."""
    path = host_path("prometheus", service("prometheus", file)["command"][0].removeprefix("--config.file="))
    config = yaml.safe_load(path.read_text())
    (job,) = config["scrape_configs"]
    (target,) = job.pop("static_configs")[0]["targets"]
    return config, target, job.pop("authorization", {}).get("credentials_file")


def listens(address):  # such as prometheus:9090
    name, port = address.split(":")
    container = service(name)
    return (container.get("ports") or container["expose"])[0].split(":")[-1] == port


HARDENED = {
    "restart": "unless-stopped",
    "read_only": True,
    "tmpfs": ["/tmp:mode=1777"],
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_confined_and_restarted(name):
    container, health = service(name), service(name)["healthcheck"]
    assert HARDENED.items() <= container.items()
    assert re.fullmatch(r"\d+[mg]", container["mem_limit"])
    assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & set(container)
    assert health["test"][0] == "CMD"
    assert seconds(health["timeout"]) < seconds(health["interval"])
    assert seconds(container["stop_grace_period"]) > 10  # the default
    for file in FILES:  # Compose refuses bare true and false
        environment = read(file)["services"].get(name, {}).get("environment", {})
        assert all(isinstance(value, str) for value in environment.values())


def test_images_are_built_or_pinned_folders_mounted_and_ports_published_on_the_loopback_address():
    assert set(read()["services"]) == set(SERVICES)
    assert "ports" not in service("photoz")  # clients connect to nginx
    published = [service(name)["ports"][0].split(":") for name in PUBLISHED]
    assert [address for address, _, _ in published] == ["127.0.0.1"] * 3
    assert len({port for _, port, _ in published}) == 3
    for name, prefix in PUBLISHED.items():  # variables publish one of them elsewhere
        elsewhere = {f"{prefix}_ADDRESS": "192.0.2.1", f"{prefix}_PORT": "1"}
        published = [service(other, **elsewhere)["ports"][0] for other in PUBLISHED]
        assert [port.startswith("192.0.2.1:1:") for port in published] == [other == name for other in PUBLISHED]
    assert (DEPLOY / service("photoz")["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    data = {"prometheus": "/prometheus", "grafana": "/var/lib/grafana", "nginx": "/var/cache/nginx"}
    for name, path in data.items():
        assert re.fullmatch(r"docker\.io/[\w/-]+:v?\d+\.\d+\.\d+", service(name)["image"])
        assert service(name, **{f"{name.upper()}_IMAGE": "other"})["image"] == "other"
        assert f"{name}:{path}" in service(name)["volumes"]
    assert "--storage.tsdb.path=/prometheus" in service("prometheus")["command"]
    assert host_path("photoz", "/app/models/photoz/card.json").is_file()  # as in the image
    volume = service("photoz", PHOTOZ_MODEL_DIR="/mine")["volumes"][0]
    assert (volume["source"], volume["bind"]["create_host_path"]) == ("/mine", False)


def test_memory_grace_period_and_nginx_fit_the_settings():
    memory = int(service("photoz")["mem_limit"].removesuffix("g")) * 2**30
    settings = Settings(max_memory_bytes=memory // 8)  # the default in such a container
    assert settings.documented_memory_bytes < memory / 2  # the other half is a reserve
    longest = settings.drain_seconds + settings.transfer_timeout + settings.request_timeout
    assert all(seconds(service(name)["stop_grace_period"]) > longest for name in ("photoz", "nginx"))
    defaults = read_defaults()
    limits = {name: value for name, value in defaults.items() if name.startswith("PHOTOZ_")}
    assert limits == {name: f"{getattr(settings, name.removeprefix('PHOTOZ_').lower()):.0f}" for name in limits}
    assert listens(defaults["NGINX_UPSTREAM"])
    assert listens(f"nginx:{defaults['NGINX_LISTEN'].split(':')[1]}")
    template = host_path("nginx", "/etc/nginx/templates/photoz.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)\}", template)) == defaults.keys()
    assert f"at most {settings.max_header_bytes:,} bytes" in template
    own, shared = service("nginx")["env_file"]
    assert (DEPLOY / own["path"]).is_file()
    assert [shared] == service("photoz")["env_file"]  # the last file takes precedence
    assert "PHOTOZ_TRUSTED_PROXIES" in service("photoz")["environment"]


def test_prometheus_is_configured_as_without_containers_and_has_a_key_if_keys_are_needed():
    without = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    del without["scrape_configs"][0]["static_configs"]
    file = read(WITH_KEYS)
    photoz, prometheus = file["services"]["photoz"], file["services"]["prometheus"]
    (secret,), (key,) = photoz["secrets"], prometheus["secrets"]
    for name, credentials in ((BASE, None), (WITH_KEYS, f"/run/secrets/{key}")):
        config, target, credentials_file = prometheus_config(name)
        assert (config, listens(target), credentials_file) == (without, True, credentials)
    assert photoz["environment"] == {"PHOTOZ_API_KEYS_FILE": secret["target"]}
    files = {name: content["file"] for name, content in file["secrets"].items()}
    assert files == {secret["source"]: "<PHOTOZ_KEYS>", key: "<PHOTOZ_PROMETHEUS_KEY>"}
    assert prometheus["command"][1:] == service("prometheus")["command"][1:]


GRAFANA = {
    "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",  # otherwise admin, password admin
    "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
}


def test_grafana_shows_the_dashboard_has_no_default_password_and_sends_no_reports():
    provisioning, environment = Path("/etc/grafana/provisioning"), service("grafana")["environment"]
    file = host_path("grafana", provisioning / "datasources" / "prometheus.yaml")
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert listens(source["url"].removeprefix("http://"))
    assert source["jsonData"]["timeInterval"] == prometheus_config(BASE)[0]["global"]["scrape_interval"]
    file = host_path("grafana", provisioning / "dashboards" / "photoz.yaml")
    folder = host_path("grafana", yaml.safe_load(file.read_text())["providers"][0]["options"]["path"])
    assert list(folder.rglob("*.json")) == [DEPLOY / "grafana" / "photoz.json"]
    assert host_path("grafana", environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    assert environment.items() >= GRAFANA.items()
    with_password = service("grafana", WITH_PASSWORD)
    (secret,) = with_password["secrets"]
    assert read(WITH_PASSWORD)["secrets"][secret]["file"] == "<GRAFANA_PASSWORD>"
    password = {"GF_SECURITY_ADMIN_PASSWORD__FILE": f"/run/secrets/{secret}", "GF_AUTH_ANONYMOUS_ENABLED": "false"}
    assert with_password["environment"].items() >= password.items()
