"""Commands of the service: `serve`, `store` and `keys`."""

import os
import sys
import threading
import time
import urllib.request

import click

from photoz.cli.command import Group

HINTS = """
photoz is ready on {url}   (stop it with Ctrl-C)

  With curl:
    curl --data-binary @examples/cutouts.npz {url}/predict_file

  From Python, in another terminal (. .venv/bin/activate):
    import numpy as np
    from photoz_client import PhotozClient
    cutouts = np.load("examples/cutouts.npz")
    with PhotozClient("{url}") as client:
        print(client.predict(cutouts["images"], ebv=cutouts["ebv"]).z_mean)

  From the shell:     .venv/bin/photoz predict examples/cutouts.npz --url {url}
  In the browser:     {url}
"""


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Run the photometric-redshift service (by default: serve)."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command(examples=("python -m service serve --port 8080", "PHOTOZ_BUNDLE=models/mine python -m service serve"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port to listen on.")
@click.option("--hints", is_flag=True, help="Print how to use the service once it is ready.")
def serve(host: str, port: int, hints: bool) -> None:
    """Serve a model bundle over HTTP."""
    from service.server import serve

    if hints:
        threading.Thread(target=_print_hints, args=(f"http://{host}:{port}",), daemon=True).start()
    serve(host, port)


def _print_hints(url: str) -> None:
    """Wait for the service and print how to use it."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                print(HINTS.format(url=url), flush=True)
                return
        except OSError:
            time.sleep(0.2)


@main.group()
def keys() -> None:
    """Make API keys."""


@keys.command(examples=("python -m service keys create alice",))
@click.argument("name")
def create(name: str) -> None:
    """Make the API key of NAME: the key goes to stderr, the line for PHOTOZ_API_KEYS_FILE to stdout."""
    from service.api_keys import create_key

    key, line = create_key(name)
    print("The key, for its owner; it is shown only once:", key, sep="\n", file=sys.stderr)
    if sys.stdout.isatty():
        print("The line for the file of PHOTOZ_API_KEYS_FILE:", file=sys.stderr)
    print(line)


@main.group()
def store() -> None:
    """Manage the bundles in BentoML's model store."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")


@store.command(examples=("python -m service store add models/photoz",))
@click.argument("bundle", type=click.Path())
def add(bundle: str) -> None:
    """Add a bundle and print its tag."""
    from service.store import add

    print(add(bundle))


@store.command(examples=("python -m service store build models/photoz",))
@click.argument("bundle", type=click.Path())
def build(bundle: str) -> None:
    """Add a bundle, build a bento that serves it, and print the bento's tag."""
    from service.store import build

    print(build(bundle))
