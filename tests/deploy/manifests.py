"""What kustomize makes of deploy/kubernetes and deploy/kserve, and how the service would read it.

Kustomize is in kubectl; where that is not installed, tests of what it makes are skipped.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT

from service.edge import drain
from service.settings import Settings

KUBERNETES = ROOT / "deploy" / "kubernetes"
KSERVE = ROOT / "deploy" / "kserve"

CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

Manifest = dict[str, Any]


def rendered(folder: Path) -> list[Manifest]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed, and kustomize with it")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def base_with(components: tuple[str, ...], folder: Path) -> Path:
    """Write a kustomization elsewhere; it can refer to ours by relative paths alone."""
    ours = Path(os.path.relpath(KUBERNETES.resolve(), folder.resolve()))
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "photoz",
        "resources": [str(ours / "base")],
        "components": [str(ours / "components" / name) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def settings_of(container: Manifest) -> Settings:
    """Read the settings of a container as the service would."""
    return Settings.from_environment({one["name"]: one["value"] for one in container["env"] if "value" in one})


def longest_end(settings: Settings) -> float:
    """Return the seconds from SIGTERM until the last has an answer whose body does not trickle in."""
    return settings.drain + drain.LAST_CALL + settings.limits.upload_timeout + settings.limits.timeout


def size(text: str) -> int:
    """Read bytes as Kubernetes writes them."""
    return int(text[:-2]) * {"Mi": 1024**2, "Gi": 1024**3}[text[-2:]]


def memory_needed(container: Manifest) -> float:
    """Return the bytes that it should get by with, where the alert PhotozMemory comes: before the end, then."""
    assert "PHOTOZ_MAX_MEMORY" in [one["name"] for one in container["env"]]  # else it depends on where this runs
    return settings_of(container).limits.expected_memory
