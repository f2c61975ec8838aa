"""What is in deploy/kubernetes: valid for the old and the new, and in agreement with the service that it runs."""

import hashlib
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from manifests import (
    CONFINED,
    KSERVE,
    KUBERNETES,
    base_with,
    longest_end,
    memory_needed,
    of_kind,
    rendered,
    settings_of,
    size,
)
from running import ROOT

from service.edge import keys
from service.errors import Unauthorized

OLDEST, NEWEST = "1.28", kubernetes_validate.latest_version()
NEEDS_NEWER = {"model-image": "1.33"}  # image volumes
FOREIGN = {"ScaledObject", "PodMonitor"}  # defined by others, so not known to the schemas of Kubernetes
MANY = ("monitoring", "keda", "traces", "model-pvc", "ingress-tls")
COMPONENTS = {path.parent.name: (path.parent.name,) for path in KUBERNETES.glob("components/*/kustomization.yaml")}
OVERLAYS = {path.parent.name: path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml")}
OF_MINE = {"name": "photoz", "newName": "registry.example.org/photoz", "newTag": "1.0.0"}
THERE_ONCE = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "photoz"}},
    {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "photoz-models"}},
]
CASES = ["files", "base", *sorted(OVERLAYS), *sorted(COMPONENTS), "many", "canary of many"]


def folder_of(case, folder):
    if case == "canary of many":  # as overlays/canary says: with another overlay in place of the base
        (folder / "mine").mkdir()
        mine = base_with(MANY, folder / "mine") / "kustomization.yaml"
        (folder / "mine" / "once.yaml").write_text(yaml.safe_dump_all(THERE_ONCE))
        content = yaml.safe_load(mine.read_text())
        content["resources"].append("once.yaml")
        mine.write_text(yaml.safe_dump(content | {"images": [OF_MINE]}))
        canary = (OVERLAYS["canary"] / "kustomization.yaml").read_text()
        assert "- ../../base\n" in canary
        (folder / "canary").mkdir()
        (folder / "canary" / "kustomization.yaml").write_text(canary.replace("../../base", "../mine"))
        return folder / "canary"
    if case in COMPONENTS or case == "many":
        return base_with(COMPONENTS.get(case, MANY), folder)
    return OVERLAYS.get(case, KUBERNETES / case)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def manifests(case, tmp_path_factory):
    """Return what an operator would apply."""
    if case == "files":
        listed = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["resources"]
        return [yaml.safe_load((KUBERNETES / "base" / name).read_text()) for name in listed]
    return rendered(folder_of(case, tmp_path_factory.mktemp("kustomize")))


@pytest.fixture(scope="module")
def deployment(manifests):
    (found,) = of_kind(manifests, "Deployment")
    return found


@pytest.fixture(scope="module")
def pod(deployment):
    return deployment["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (found,) = pod["containers"]
    return found


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_are_valid(case, manifests, version):
    version = max(version, NEEDS_NEWER.get(case, version))
    for manifest in manifests:
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_no_file_is_forgotten():
    used = set()
    for path in [*KUBERNETES.glob("**/kustomization.yaml"), *KSERVE.glob("**/kustomization.yaml")]:
        content = yaml.safe_load(path.read_text())
        named = content.get("resources", []) + [one["path"] for one in content.get("patches", []) if "path" in one]
        used |= {path, *(path.parent / name for name in named)}
    assert {*KUBERNETES.glob("**/*.yaml"), *KSERVE.glob("**/*.yaml")} <= used


def test_no_secret_is_among_them(manifests):
    assert not of_kind(manifests, "Secret")


def test_probes_ask_what_is_open_without_a_key(container):
    assert {"containerPort": 3000, "name": "http"} in container["ports"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [one["path"] for one in probes] == ["/readyz", "/readyz", "/livez"]
    assert {one["path"] for one in probes} <= keys.OPEN_PATHS
    assert {one["port"] for one in probes} == {"http"}


def test_the_container_may_do_little(pod, container):
    assert container["securityContext"] == CONFINED
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert (str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"])) == user.groups()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    writable = [one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")]
    assert writable == ["/tmp"]


def test_the_settings_are_settings(container):
    known = (ROOT / "service" / "settings.py").read_text() + (ROOT / "service" / "tracing.py").read_text()
    for one in container["env"]:
        assert f'"{one["name"]}"' in known, one["name"]


def test_no_service_link_could_be_a_setting(pod, manifests):
    assert pod["enableServiceLinks"] is False
    ours = re.findall(r'"(PHOTOZ_\w+)"', (ROOT / "service" / "settings.py").read_text())
    assert len(ours) > 10
    for service in of_kind(manifests, "Service"):
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        assert not [name for name in ours if re.fullmatch(rf"{prefix}_(SERVICE_HOST|(SERVICE_)?PORT)(_\w+)?", name)]


def test_whoever_was_let_in_gets_an_answer_before_the_pod_is_killed(pod, container):
    assert pod["terminationGracePeriodSeconds"] > longest_end(settings_of(container))
    assert settings_of(container).drain >= 5  # the endpoints have to be told everywhere


def test_the_memory_is_enough_for_the_limits(container):
    assert size(container["resources"]["limits"]["memory"]) >= memory_needed(container)
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


def test_the_network_has_a_thread_for_each_cpu_that_is_requested(container):
    threads = {"containerName": container["name"], "resource": "requests.cpu"}
    assert {"name": "PHOTOZ_THREADS", "valueFrom": {"resourceFieldRef": threads}} in container["env"]
    assert re.fullmatch(r"\d+", str(container["resources"]["requests"]["cpu"]))


def test_selectors_find_the_pods(manifests, deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert selects(deployment["spec"]["selector"]["matchLabels"], labels)
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert selects(spread["labelSelector"]["matchLabels"], labels)
    for one in of_kind(manifests, "PodDisruptionBudget", "PodMonitor"):
        assert selects(one["spec"]["selector"]["matchLabels"], labels)
    for one in of_kind(manifests, "NetworkPolicy"):
        assert selects(one["spec"]["podSelector"]["matchLabels"], labels)
    (service,) = of_kind(manifests, "Service")
    assert selects(service["spec"]["selector"], labels)


def test_one_alone_says_how_many_there_are(manifests, deployment):
    scalers = of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    assert len(scalers) + ("replicas" in deployment["spec"]) == 1
    for one in scalers:
        assert one["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_nothing_is_open_to_the_outside_without_keys(manifests, container):
    names = [one["name"] for one in container["env"]]
    for one in of_kind(manifests, "Ingress"):
        assert "PHOTOZ_API_KEYS_FILE" in names
        assert {host for tls in one["spec"]["tls"] for host in tls["hosts"]} == {
            rule["host"] for rule in one["spec"]["rules"]
        }
        said = {name.rpartition("/")[2]: value for name, value in one["metadata"]["annotations"].items()}
        limits = settings_of(container).limits
        assert int(said["proxy-body-size"].removesuffix("m")) * 1024**2 > limits.body
        assert int(said["proxy-read-timeout"]) > limits.timeout
    for service in of_kind(manifests, "Service"):
        assert service["spec"]["type"] == "ClusterIP"


def test_prometheus_gets_a_key_where_there_are_keys(manifests, container):
    names = [one["name"] for one in container["env"]]
    for one in of_kind(manifests, "PodMonitor"):
        (endpoint,) = one["spec"]["podMetricsEndpoints"]
        assert ("authorization" in endpoint) == ("PHOTOZ_API_KEYS_FILE" in names)
        assert endpoint["port"] in [port["name"] for port in container["ports"]]


@pytest.mark.parametrize("canary", ["canary", "canary of many"])
def test_nobody_is_sent_to_the_canary(canary, tmp_path):
    found = rendered(folder_of(canary, tmp_path))
    assert sorted(one["kind"] for one in found) == ["Deployment", "Service"]
    template = of_kind(found, "Deployment")[0]["spec"]["template"]
    assert [one["image"] for one in template["spec"]["containers"]] == ["photoz:candidate"]
    claims = [one["persistentVolumeClaim"] for one in template["spec"]["volumes"] if "persistentVolumeClaim" in one]
    assert {claim["claimName"] for claim in claims} <= {"photoz-models"}  # that of what serves
    labels = template["metadata"]["labels"]
    base = rendered(KUBERNETES / "base")
    for kind in ("Service", "Deployment", "PodDisruptionBudget"):
        selector = of_kind(base, kind)[0]["spec"]["selector"]
        assert not selects(selector.get("matchLabels", selector), labels)
    (network,) = of_kind(base, "NetworkPolicy")
    assert selects(network["spec"]["podSelector"]["matchLabels"], labels)


def test_the_prometheus_rule_is_what_prometheus_has():
    done = subprocess.run(
        [sys.executable, KUBERNETES / "prometheus_rule.py"], capture_output=True, text=True, check=True
    )
    files = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yaml", "alerts.yaml")]
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    rule = yaml.safe_load(done.stdout)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == {"groups": groups}


def test_a_changed_secret_is_read_again(tmp_path, monkeypatch):
    """Kubernetes swaps a link to a folder; the names in the volume are links that lead through it."""

    def write(folder, key):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys.txt").write_text(f"alice {hashlib.sha256(key).hexdigest()}\n")
        (tmp_path / "..data_tmp").symlink_to(folder)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        return tmp_path / folder

    old = write("..2026_01", b"old")
    (tmp_path / "keys.txt").symlink_to("..data/keys.txt")
    monkeypatch.setattr(keys, "LOOK_EVERY", 0.0)
    known = keys.Keys(tmp_path / "keys.txt")
    assert known.check(b"Bearer old") == "alice"
    write("..2026_02", b"new")
    shutil.rmtree(old)
    assert known.check(b"Bearer new") == "alice"
    with pytest.raises(Unauthorized):
        known.check(b"Bearer old")
