"""deploy/kubernetes and deploy/kserve are valid in Kubernetes, and agree with the service that they run.

Kustomize is part of kubectl; without it, tests of rendered manifests are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import kubernetes_validate
import pytest
import yaml

from service.limits import PROBES
from service.settings import Settings
from tests.running import ROOT

KUBERNETES, KSERVE = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "kserve"
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
CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
CASES = ["base", *sorted(OVERLAYS), *sorted(COMPONENTS), "many", "canary of many"]


def render(folder: Path) -> list[dict]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which contains kustomize, is not installed")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[dict], *kinds: str) -> list[dict]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def check_resources(container: dict, grace_period: float) -> Settings:
    """Check that memory and grace period are enough for the settings, and return these."""
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert "PHOTOZ_MAX_MEMORY_BYTES" in values  # the default depends on this machine
    with mock.patch.dict(os.environ, values, clear=True):
        settings = Settings.from_environment()
    memory = container["resources"]["limits"]["memory"]
    assert int(memory[:-2]) * {"Mi": 1024**2, "Gi": 1024**3}[memory[-2:]] >= settings.documented_memory_bytes
    assert grace_period > settings.drain_seconds + settings.transfer_timeout + settings.request_timeout
    return settings


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
    (mine := folder / "mine").mkdir()  # in place of the base of overlays/canary
    (canary := folder / "canary").mkdir()
    write_overlay(mine, MANY, "shared.yaml", images=[{"name": "photoz", "newName": "registry.example.org/photoz"}])
    (mine / "shared.yaml").write_text(yaml.safe_dump_all(SHARED))
    text = (OVERLAYS["canary"] / "kustomization.yaml").read_text()
    assert "- ../../base\n" in text
    (canary / "kustomization.yaml").write_text(text.replace("../../base", "../mine"))
    return canary


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """Return the name of a case, the manifests that an operator would apply, their deployment and its container."""
    rendered = render(folder_of(request.param, tmp_path_factory.mktemp("kustomize")))
    (deployment,) = of_kind(rendered, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return request.param, rendered, deployment["spec"], container


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_manifests_are_valid_and_the_container_is_confined_and_probed(case):
    name, rendered, deployment, container = case
    for version in (OLDEST_OF.get(name, OLDEST), NEWEST):
        for manifest in rendered:
            if manifest["kind"] not in CUSTOM_RESOURCES:
                kubernetes_validate.validate(manifest, version, strict=True)
    assert not of_kind(rendered, "Secret")
    pod = deployment["template"]["spec"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    identity = {"runAsNonRoot": True, "runAsUser": int(user[1]), "runAsGroup": int(user[2])}
    assert pod["securityContext"] == identity | {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == CONFINED
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]
    assert {"containerPort": 3000, "name": "http"} in container["ports"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert probes == [{"path": path, "port": "http"} for path in ("/readyz", "/readyz", "/livez")]
    assert {probe["path"] for probe in probes} <= PROBES  # which need no key


def test_variables_memory_and_times_fit_the_settings(case):
    _, rendered, deployment, container = case
    pod, resources = deployment["template"]["spec"], container["resources"]
    settings = check_resources(container, pod["terminationGracePeriodSeconds"])
    assert settings.drain_seconds >= 5  # all nodes have to update the endpoints
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    threads = {"containerName": container["name"], "resource": "requests.cpu"}
    assert {"name": "PHOTOZ_THREADS", "valueFrom": {"resourceFieldRef": threads}} in container["env"]
    assert re.fullmatch(r"\d+", str(resources["requests"]["cpu"]))
    assert {variable["name"] for variable in container["env"]} <= SETTINGS | OTHER_VARIABLES
    assert pod["enableServiceLinks"] is False
    for service in of_kind(rendered, "Service"):
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        link = re.compile(rf"{prefix}_(SERVICE_HOST|(SERVICE_)?PORT)(_\w+)?")
        assert not [name for name in SETTINGS if link.fullmatch(name)]


def test_selectors_match_the_pods_and_one_object_sets_their_number(case):
    _, rendered, deployment, _ = case
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    (service,) = of_kind(rendered, "Service")
    others = of_kind(rendered, "PodDisruptionBudget", "PodMonitor", "NetworkPolicy")
    selectors = [one["spec"].get("podSelector") or one["spec"]["selector"] for one in others]
    selectors = [one["matchLabels"] for one in (*selectors, deployment["selector"], spread["labelSelector"])]
    labels = deployment["template"]["metadata"]["labels"]
    assert all(selects(selector, labels) for selector in (*selectors, service["spec"]["selector"]))
    scalers = of_kind(rendered, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scalers) + ("replicas" in deployment) == 1
    names = {one["metadata"]["name"] for one in of_kind(rendered, "Deployment")}
    assert {scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers} <= names


def test_access_from_outside_needs_keys(case):
    _, rendered, deployment, container = case
    settings = check_resources(container, deployment["template"]["spec"]["terminationGracePeriodSeconds"])
    variables = {variable["name"] for variable in container["env"]}
    has_keys = "PHOTOZ_API_KEYS_FILE" in variables
    for ingress in of_kind(rendered, "Ingress"):
        assert {"PHOTOZ_API_KEYS_FILE", "PHOTOZ_TRUSTED_PROXIES"} <= variables
        rules, tls = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert {host for one in tls for host in one["hosts"]} == {rule["host"] for rule in rules}
        annotations = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
        assert int(annotations["proxy-body-size"].removesuffix("m")) * 1024**2 > settings.max_body_bytes
        assert int(annotations["proxy-read-timeout"]) > settings.request_timeout
        assert {annotations[name] for name in ("proxy-request-buffering", "proxy-buffering")} == {"on"}
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


KSERVE_FOLDERS = {path.parent.name: path.parent for path in KSERVE.glob("**/kustomization.yaml")}
# Fields of a predictor that are not fields of a pod (kserve 0.21, V1beta1PredictorSpec).
PREDICTOR_FIELDS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "containerConcurrency"}
# Knative refuses a pod with these, some of them unless a flag is set (knative/serving, pkg/apis/serving/fieldmask.go).
REFUSED_BY_KNATIVE = {"terminationGracePeriodSeconds", "automountServiceAccountToken", "securityContext"}


@pytest.mark.parametrize("name", sorted(KSERVE_FOLDERS))
def test_pod_of_kserve_is_valid_confined_and_fits_the_settings(name):
    (found,) = render(KSERVE_FOLDERS[name])
    kind = found["apiVersion"], found["kind"], found["metadata"]["name"]
    assert kind == ("serving.kserve.io/v1beta1", "InferenceService", "photoz")
    predictor = found["spec"]["predictor"]
    spec = {field: value for field, value in predictor.items() if field not in PREDICTOR_FIELDS}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "photoz"}, "spec": spec}
    kubernetes_validate.validate(pod, NEWEST, strict=True)
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert [port["containerPort"] for port in container["ports"]] == [3000]
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    probes = [container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")]
    assert all(probe["path"] in PROBES and probe["port"] == 3000 for probe in probes)
    required = CONFINED | {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"].items() >= required.items()
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    settings = check_resources(container, predictor.get("terminationGracePeriodSeconds", 1e9))
    assert predictor["timeout"] > settings.request_timeout
    requested, limit = (int(container["resources"][name]["cpu"]) for name in ("requests", "limits"))
    assert settings.threads == requested <= limit
    if name == "knative":
        assert not REFUSED_BY_KNATIVE & predictor.keys()
        assert "startupProbe" not in container
        assert 0 < predictor["containerConcurrency"] <= settings.max_in_flight
    if name == "storage":
        assert {"name": "PHOTOZ_BUNDLE", "value": "/mnt/models"} in container["env"]
        assert "STORAGE_URI" in [variable["name"] for variable in container["env"]]
