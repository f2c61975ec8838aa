"""deploy/kubernetes is valid for the oldest and newest version, and agrees with the service that it runs."""

import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from service import api_keys
from service.errors import RequestError
from service.limits import PROBES
from service.settings import Settings
from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, of_kind, render, settings_of
from tests.running import ROOT

OLDEST, NEWEST = "1.28", kubernetes_validate.latest_version()
OLDEST_OF = {"model-image": "1.33"}  # image volumes
CUSTOM_RESOURCES = {"ScaledObject", "PodMonitor"}  # not in the schemas of Kubernetes
SETTINGS = {f"PHOTOZ_{name.upper()}" for name in Settings.model_fields}
OTHER_VARIABLES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG"}
MANY = ("monitoring", "keda", "traces", "model-pvc", "ingress-tls")
COMPONENTS = {path.parent.name: (path.parent.name,) for path in KUBERNETES.glob("components/*/kustomization.yaml")}
OVERLAYS = {path.parent.name: path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml")}
SHARED = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "photoz"}},
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "photoz-models"}},
]
CASES = ["base", *sorted(OVERLAYS), *sorted(COMPONENTS), "many", "canary of many"]


def write_overlay(folder: Path, components: tuple[str, ...], *resources: str, **fields) -> Path:
    """Write a kustomization of the base and components; it can refer to ours by relative paths only."""
    ours = Path(os.path.relpath(KUBERNETES.resolve(), folder.resolve()))
    fields |= {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "photoz"}
    fields["resources"] = [str(ours / "base"), *resources]
    fields["components"] = [str(ours / "components" / name) for name in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return folder


def folder_of(case: str, folder: Path) -> Path:
    if case != "canary of many":
        components = {**COMPONENTS, "many": MANY}.get(case)
        return write_overlay(folder, components) if components else OVERLAYS.get(case, KUBERNETES / case)
    mine, canary = folder / "mine", folder / "canary"  # overlays/canary with another overlay in place of the base
    mine.mkdir()
    canary.mkdir()
    write_overlay(mine, MANY, "shared.yaml", images=[{"name": "photoz", "newName": "registry.example.org/photoz"}])
    (mine / "shared.yaml").write_text(yaml.safe_dump_all(SHARED))
    text = (OVERLAYS["canary"] / "kustomization.yaml").read_text()
    assert "- ../../base\n" in text
    (canary / "kustomization.yaml").write_text(text.replace("../../base", "../mine"))
    return canary


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def rendered(case, tmp_path_factory):
    """Return the manifests that an operator would apply."""
    return render(folder_of(case, tmp_path_factory.mktemp("kustomize")))


@pytest.fixture(scope="module")
def deployment(rendered):
    (found,) = of_kind(rendered, "Deployment")
    return found["spec"]


@pytest.fixture(scope="module")
def container(deployment):
    (found,) = deployment["template"]["spec"]["containers"]
    return found


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_are_valid(case, rendered, version):
    version = max(version, OLDEST_OF.get(case, version))
    for manifest in rendered:
        if manifest["kind"] not in CUSTOM_RESOURCES:
            kubernetes_validate.validate(manifest, version, strict=True)
    assert not of_kind(rendered, "Secret")


def test_probes_need_no_key(container):
    assert {"containerPort": 3000, "name": "http"} in container["ports"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/readyz", "/livez"]
    assert {probe["port"] for probe in probes} == {"http"}
    assert {probe["path"] for probe in probes} <= PROBES


def test_container_is_confined(deployment, container):
    pod = deployment["template"]["spec"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    identity = {"runAsNonRoot": True, "runAsUser": int(user[1]), "runAsGroup": int(user[2])}
    assert pod["securityContext"] == identity | {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == manifests.CONFINED
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]


def test_variables_are_settings_and_service_links_are_not(deployment, rendered, container):
    assert {variable["name"] for variable in container["env"]} <= SETTINGS | OTHER_VARIABLES
    assert deployment["template"]["spec"]["enableServiceLinks"] is False
    for service in of_kind(rendered, "Service"):
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        link = re.compile(rf"{prefix}_(SERVICE_HOST|(SERVICE_)?PORT)(_\w+)?")
        assert not [name for name in SETTINGS if link.fullmatch(name)]


def test_memory_times_and_threads_fit_the_settings(deployment, container):
    settings, resources = settings_of(container), container["resources"]
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > manifests.longest_shutdown(settings)
    assert settings.drain_seconds >= 5  # all nodes have to update the endpoints
    assert manifests.memory_limit(container) >= settings.documented_memory_bytes
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    threads = {"containerName": container["name"], "resource": "requests.cpu"}
    assert {"name": "PHOTOZ_THREADS", "valueFrom": {"resourceFieldRef": threads}} in container["env"]
    assert re.fullmatch(r"\d+", str(resources["requests"]["cpu"]))


def test_selectors_match_the_pods(rendered, deployment):
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    (service,) = of_kind(rendered, "Service")
    others = of_kind(rendered, "PodDisruptionBudget", "PodMonitor", "NetworkPolicy")
    selectors = [one["spec"].get("podSelector") or one["spec"]["selector"] for one in others]
    selectors = [one["matchLabels"] for one in (*selectors, deployment["selector"], spread["labelSelector"])]
    labels = deployment["template"]["metadata"]["labels"]
    assert all(selects(selector, labels) for selector in (*selectors, service["spec"]["selector"]))


def test_exactly_one_object_sets_the_number_of_pods(rendered, deployment):
    scalers = of_kind(rendered, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scalers) + ("replicas" in deployment) == 1
    names = {one["metadata"]["name"] for one in of_kind(rendered, "Deployment")}
    assert {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers} <= names


def test_access_from_outside_needs_keys(rendered, container):
    has_keys = "PHOTOZ_API_KEYS_FILE" in [variable["name"] for variable in container["env"]]
    for ingress in of_kind(rendered, "Ingress"):
        assert has_keys
        rules, tls = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert {host for one in tls for host in one["hosts"]} == {rule["host"] for rule in rules}
        annotations = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
        settings = settings_of(container)
        assert int(annotations["proxy-body-size"].removesuffix("m")) * 1024**2 > settings.max_body_bytes
        assert int(annotations["proxy-read-timeout"]) > settings.request_timeout
        assert {annotations[name] for name in ("proxy-request-buffering", "proxy-buffering")} == {"on"}
        assert "PHOTOZ_TRUSTED_PROXIES" in [variable["name"] for variable in container["env"]]
    assert {service["spec"]["type"] for service in of_kind(rendered, "Service")} == {"ClusterIP"}
    for monitor in of_kind(rendered, "PodMonitor"):  # Prometheus has a key exactly if keys are needed
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert ("authorization" in endpoint) == has_keys
        assert endpoint["port"] in [port["name"] for port in container["ports"]]


@pytest.mark.parametrize("canary", ["canary", "canary of many"])
def test_canary_gets_no_traffic(canary, tmp_path):
    found, base = render(folder_of(canary, tmp_path)), render(KUBERNETES / "base")
    assert sorted(manifest["kind"] for manifest in found) == ["Deployment", "Service"]
    template = of_kind(found, "Deployment")[0]["spec"]["template"]
    assert [container["image"] for container in template["spec"]["containers"]] == ["photoz:candidate"]
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in template["spec"]["volumes"]]
    assert set(claims) <= {None, "photoz-models"}  # the claim of the running version
    for kind in ("Service", "Deployment", "PodDisruptionBudget"):
        selector = of_kind(base, kind)[0]["spec"]["selector"]
        assert not selects(selector.get("matchLabels", selector), template["metadata"]["labels"])
    (network,) = of_kind(base, "NetworkPolicy")
    assert selects(network["spec"]["podSelector"]["matchLabels"], template["metadata"]["labels"])


def test_prometheus_rule_has_the_rules_of_prometheus():
    command = [sys.executable, KUBERNETES / "prometheus_rule.py"]
    rule = yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    files = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yaml", "alerts.yaml")]
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert (rule["kind"], rule["spec"]) == ("PrometheusRule", {"groups": groups})


def test_changed_secret_is_read_again(tmp_path, monkeypatch):
    """Kubernetes replaces a link to a folder; the file of the volume is a link through it."""
    for key in ("old", "new"):
        (tmp_path / key).mkdir()
        (tmp_path / key / "keys.txt").write_text(f"alice {sha256(key.encode()).hexdigest()}\n")
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "keys.txt").symlink_to("..data/keys.txt")
    monkeypatch.setattr(api_keys, "READ_EVERY", 0.0)
    keys = api_keys.ApiKeys(tmp_path / "keys.txt")
    assert keys.check("Bearer old") == "alice"
    (tmp_path / "..next").symlink_to("new")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert keys.check("Bearer new") == "alice"
    with pytest.raises(RequestError, match="API key"):
        keys.check("Bearer old")
