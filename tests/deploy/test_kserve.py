"""What is in deploy/kserve agrees with the service that it runs, and its pod is one that Kubernetes takes."""

import json

import kubernetes_validate
import pytest
import yaml
from manifests import CONFINED, KSERVE, longest_end, memory_needed, rendered, settings_of, size
from running import ROOT

from service.edge.keys import OPEN_PATHS

FOLDERS = {path.parent.name: path.parent for path in KSERVE.glob("**/kustomization.yaml")}
# What a predictor has beside the fields of a pod (kserve 0.21, V1beta1PredictorSpec).
KSERVES = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "containerConcurrency"}
# Knative refuses a pod with these, some of them unless a flag is set (knative/serving, pkg/apis/serving/fieldmask.go).
NOT_KNATIVES = {"terminationGracePeriodSeconds", "automountServiceAccountToken", "securityContext"}


@pytest.fixture(scope="module", params=["file", *sorted(FOLDERS)])
def service(request):
    if request.param == "file":
        return yaml.safe_load((KSERVE / "base" / "inferenceservice.yaml").read_text())
    (found,) = rendered(FOLDERS[request.param])
    return found


@pytest.fixture(scope="module")
def predictor(service):
    return service["spec"]["predictor"]


@pytest.fixture(scope="module")
def container(predictor):
    (found,) = predictor["containers"]
    return found


def test_its_name_is_the_models(service):
    card = json.loads((ROOT / "models" / "photoz" / "card.json").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"]["name"] == card["name"]


def test_its_pod_is_one(predictor):
    spec = {name: value for name, value in predictor.items() if name not in KSERVES}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "photoz"}, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_the_container_is_the_one_that_kserve_looks_for(container):
    assert container["name"] == "kserve-container"
    assert [one["containerPort"] for one in container["ports"]] == [3000]
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    for name in ("readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"]["path"] in OPEN_PATHS
        assert container[name]["httpGet"]["port"] == 3000


def test_the_container_may_do_little(container):
    said = container["securityContext"]
    assert CONFINED.items() <= said.items()
    assert said["runAsNonRoot"] is True
    assert said["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [one["mountPath"] for one in container["volumeMounts"]] == ["/tmp"]


def test_it_has_the_memory_and_the_time(predictor, container):
    assert size(container["resources"]["limits"]["memory"]) >= memory_needed(container)
    assert predictor.get("terminationGracePeriodSeconds", 1e9) > longest_end(settings_of(container))
    assert predictor["timeout"] > settings_of(container).limits.timeout
    threads = settings_of(container).threads
    assert threads == int(container["resources"]["requests"]["cpu"]) <= int(container["resources"]["limits"]["cpu"])


def test_knative_takes_it():
    (found,) = rendered(FOLDERS["knative"])
    predictor = found["spec"]["predictor"]
    assert not NOT_KNATIVES & predictor.keys()
    assert "startupProbe" not in predictor["containers"][0]
    assert 0 < predictor["containerConcurrency"] <= settings_of(predictor["containers"][0]).limits.in_flight


def test_the_bundle_of_kserves_storage_is_the_one_that_is_served():
    (found,) = rendered(FOLDERS["storage"])
    values = {one["name"]: one["value"] for one in found["spec"]["predictor"]["containers"][0]["env"]}
    assert values["PHOTOZ_BUNDLE"] == "/mnt/models"
    assert "://" in values["STORAGE_URI"]
