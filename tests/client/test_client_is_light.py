"""The base install is light: what importing the client brings in."""

import subprocess
import sys

HEAVY = ("tensorflow", "keras", "bentoml", "scipy", "matplotlib", "astropy", "openvino", "pandas", "jinja2")
LIGHT = ("numpy", "pydantic", "httpx", "click", "h5py")


def _run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_client_and_its_command_pulls_in_nothing_heavy():
    loaded = _run("import sys, photoz_client, photoz_client.cli; print(*sys.modules)")
    assert set(LIGHT) <= set(loaded)
    assert not set(HEAVY) & set(loaded)
