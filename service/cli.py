"""Commands of the service: `serve`, `store` and `keys`."""

import os
import sys

import click

from photoz.cli.command import Group


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Run the photometric-redshift service (by default: serve)."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command(examples=("python -m service serve --port 8080", "PHOTOZ_BUNDLE=models/mine python -m service serve"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, help="Port to listen on.")
def serve(host: str, port: int) -> None:
    """Serve a model bundle over HTTP."""
    from service.server import serve

    serve(host, port)


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
