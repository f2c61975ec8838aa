"""Write the SBOM of an image: its Python packages, the Debian packages of its base, and its model.

    python requirements/image_sbom.py photoz dist/image.cdx.json --engine podman

Nothing in the image is executed; its own records are read. The result is CycloneDX in JSON, without a date or a random
number, so that the same image gives the same file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ENVIRONMENT = "venv/lib"
DEBIAN = "var/lib/dpkg/status"
CARD = "app/models/photoz/card.json"


def main() -> None:
    """Read the image and write the SBOM."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image")
    parser.add_argument("output", type=Path)
    parser.add_argument("--engine", default="docker")
    chosen = parser.parse_args()
    inspected = subprocess.run([chosen.engine, "image", "inspect", chosen.image], stdout=subprocess.PIPE)
    if inspected.returncode:
        sys.exit(f"image {chosen.image} not found: run make image, or set IMAGE=...")
    about = json.loads(inspected.stdout)[0]
    with copied(chosen.engine, chosen.image, ENVIRONMENT, DEBIAN, CARD) as folder:
        bom = python_packages(folder)
        bom.components.update(debian_packages(folder / Path(DEBIAN).name))
        bom.components.update(interpreter(about))
        bom.components.add(model(json.loads((folder / Path(CARD).name).read_text())))
    bom.metadata.component = image(chosen.image, about)
    bom.register_dependency(bom.metadata.component, bom.components)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["serialNumber"], written["metadata"]["timestamp"]
    chosen.output.write_text(json.dumps(written, indent=2) + "\n")
    print(f"{chosen.output}: {len(bom.components)} components of {chosen.image}")


@contextmanager
def copied(engine: str, image: str, *paths: str) -> Iterator[Path]:
    """Copy files and folders out of an image into a temporary folder."""
    name = subprocess.check_output([engine, "create", image], text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for path in paths:
                subprocess.run([engine, "cp", f"{name}:/{path}", folder], check=True)
            yield Path(folder)
        finally:
            subprocess.run([engine, "rm", name], check=True, stdout=subprocess.DEVNULL)


def python_packages(folder: Path) -> Bom:
    """Run cyclonedx-py on the packages of the image, moved into an environment of this machine."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    (site_packages,) = (folder / "environment").glob("lib/python3*/site-packages")
    (packages,) = (folder / "lib").glob("python3*/site-packages")
    site_packages.rmdir()
    packages.rename(site_packages)
    listed, python = folder / "python.json", folder / "environment" / "bin" / "python"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "-o", listed, python]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return Bom.from_json(json.loads(listed.read_text()))  # type: ignore[attr-defined,no-any-return]


def debian_packages(status: Path) -> Iterator[Component]:
    """Read dpkg's record of the installed packages."""
    for paragraph in status.read_text().strip().split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Status"].endswith(" installed"):
            qualifiers = {"arch": fields["Architecture"]}
            purl = PackageURL("deb", "debian", fields["Package"], fields["Version"], qualifiers)
            yield Component(name=fields["Package"], version=fields["Version"], purl=purl, bom_ref=purl.to_string())


def interpreter(about: dict) -> Iterator[Component]:
    """Yield the Python interpreter, which neither pip nor dpkg installed; the official images have its version."""
    for name, _, version in (variable.partition("=") for variable in about["Config"]["Env"]):
        if name == "PYTHON_VERSION":
            purl = PackageURL("generic", None, "python", version)
            yield Component(name="python", version=version, purl=purl, bom_ref=purl.to_string())


def model(card: dict) -> Component:
    """Describe the model bundle in the image: its digest is the SHA-256 over the hashes of its files."""
    return Component(
        name=card["name"],
        version=card["version"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=card["digest"])],
        bom_ref=f"model:{card['name']}@{card['version']}",
    )


def image(name: str, about: dict) -> Component:
    """Describe the image itself."""
    labels = about["Config"].get("Labels") or {}
    layers = [Property(name="layer", value=layer) for layer in about["RootFS"]["Layers"]]
    version = labels.get("org.opencontainers.image.version")
    return Component(
        name=name, version=version, type=ComponentType.CONTAINER, properties=layers, bom_ref=f"image:{name}"
    )


if __name__ == "__main__":
    main()
