"""deploy/kserve agrees with the service that it runs, and its pod is valid in Kubernetes."""

import json

import kubernetes_validate
import pytest

from service.limits import PROBES
from tests.deploy.manifests import CONFINED, KSERVE, longest_shutdown, memory_limit, render, settings_of
from tests.running import ROOT

FOLDERS = {path.parent.name: path.parent for path in KSERVE.glob("**/kustomization.yaml")}
# Fields of a predictor that are not fields of a pod (kserve 0.21, V1beta1PredictorSpec).
PREDICTOR_FIELDS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "containerConcurrency"}
# Knative refuses a pod with these, some of them unless a flag is set (knative/serving, pkg/apis/serving/fieldmask.go).
REFUSED_BY_KNATIVE = {"terminationGracePeriodSeconds", "automountServiceAccountToken", "securityContext"}


def predictor_of(name):
    (found,) = render(FOLDERS[name])
    card = json.loads((ROOT / "models" / "photoz" / "card.json").read_text())
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert found["metadata"]["name"] == card["name"]
    return found["spec"]["predictor"]


@pytest.fixture(scope="module", params=sorted(FOLDERS))
def predictor(request):
    return predictor_of(request.param)


def test_pod_is_valid(predictor):
    spec = {name: value for name, value in predictor.items() if name not in PREDICTOR_FIELDS}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "photoz"}, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_container_is_confined_and_what_kserve_expects(predictor):
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert [port["containerPort"] for port in container["ports"]] == [3000]
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    probes = [container[name]["httpGet"] for name in ("readinessProbe", "livenessProbe")]
    assert all(probe["path"] in PROBES and probe["port"] == 3000 for probe in probes)
    required = CONFINED | {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"].items() >= required.items()
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_memory_times_and_threads_fit_the_settings(predictor):
    (container,) = predictor["containers"]
    settings, resources = settings_of(container), container["resources"]
    assert memory_limit(container) >= settings.documented_memory_bytes
    assert predictor.get("terminationGracePeriodSeconds", 1e9) > longest_shutdown(settings)
    assert predictor["timeout"] > settings.request_timeout
    assert settings.threads == int(resources["requests"]["cpu"]) <= int(resources["limits"]["cpu"])


def test_knative_overlay_has_only_allowed_fields():
    predictor = predictor_of("knative")
    assert not REFUSED_BY_KNATIVE & predictor.keys()
    assert "startupProbe" not in predictor["containers"][0]
    assert 0 < predictor["containerConcurrency"] <= settings_of(predictor["containers"][0]).max_in_flight


def test_storage_overlay_serves_the_downloaded_bundle():
    (container,) = predictor_of("storage")["containers"]
    assert {"name": "PHOTOZ_BUNDLE", "value": "/mnt/models"} in container["env"]
    assert "STORAGE_URI" in [variable["name"] for variable in container["env"]]
