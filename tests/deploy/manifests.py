"""Render deploy/kubernetes and deploy/kserve with kustomize, and read their settings as the service does.

Kustomize is part of kubectl; without it, tests of rendered manifests are skipped.
"""

import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest
import yaml

from service.settings import Settings
from tests.running import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
KSERVE = ROOT / "deploy" / "kserve"

CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def render(folder: Path) -> list[dict]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which contains kustomize, is not installed")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: list[dict], *kinds: str) -> list[dict]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def read_settings(environment: dict[str, str]) -> Settings:
    with mock.patch.dict(os.environ, environment, clear=True):
        return Settings.from_environment()


def settings_of(container: dict) -> Settings:
    values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert "PHOTOZ_MAX_MEMORY_BYTES" in values  # the default depends on this machine
    return read_settings(values)


def longest_shutdown(settings: Settings) -> float:
    """Return the seconds from SIGTERM to the last answer, for a body that does not arrive slowly."""
    return settings.drain_seconds + settings.transfer_timeout + settings.request_timeout


def memory_limit(container: dict) -> int:
    text = container["resources"]["limits"]["memory"]
    return int(text[:-2]) * {"Mi": 1024**2, "Gi": 1024**3}[text[-2:]]
