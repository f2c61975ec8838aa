"""Print every path of the service, as the application that serves it knows them; in a process of its own."""

from collections.abc import Iterator

from starlette.routing import BaseRoute


def all_paths(routes: list[BaseRoute], prefix: str = "") -> Iterator[str]:
    """Walk every route, mounted ones included; a parameter becomes a word."""
    for route in routes:
        path = prefix + getattr(route, "path", "").replace("{name}", "toy").replace("{version}", "1")
        below = getattr(route, "routes", None) or getattr(getattr(route, "app", None), "routes", None)
        if below:
            yield from all_paths(below, path.replace("{path:path}", "").rstrip("/"))
        else:
            yield path.replace("{path:path}", "") or "/"


if __name__ == "__main__":
    from _bentoml_impl.server.app import ServiceAppFactory

    from service.app import Photoz

    Photoz.inject_config()
    print(*sorted(set(all_paths(ServiceAppFactory(Photoz, is_main=True)().routes))), sep="\n")
