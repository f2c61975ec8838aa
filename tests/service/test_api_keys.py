"""API keys: every path but liveness and readiness needs one."""

import hashlib
import os

import httpx
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidInput
from service import page
from service.api_keys import ApiKeys, read_keys
from service.cli import main
from service.errors import RequestError
from service.limits import PROBES
from tests.running import running_service
from tests.service.helpers import check_error, wait_for
from tests.service.raw_http import RawConnection, head

KEY = "a-key-that-is-hard-to-guess"
NEEDED = "an API key is needed: expected the header Authorization: Bearer KEY"
UNKNOWN = "unknown API key: it is wrong or was withdrawn"


def line(name, key):
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.fixture(scope="module")
def service_with_keys(make_toy_bundle, tmp_path_factory):
    """Run a service with two keys."""
    home = tmp_path_factory.mktemp("keys")
    (home / "keys").write_text("# a comment\n\n" + line("alice", KEY) + line("bob", "another"))
    variables = {"PHOTOZ_API_KEYS_FILE": home / "keys", "PHOTOZ_ACCESS_LOG": "on"}
    with running_service(home, PHOTOZ_BUNDLE=make_toy_bundle().path, **variables) as running:
        yield running


def get(running, path, key="", **headers):
    return httpx.get(f"{running.url}{path}", headers={"authorization": f"Bearer {key}"} | headers)


def all_paths(routes, prefix=""):
    """Walk all routes, mounted ones included, with values for their parameters."""
    for route in routes:
        path = prefix + getattr(route, "path", "").replace("{name}", "toy").replace("{version}", "1")
        mounted = getattr(route, "routes", None) or getattr(getattr(route, "app", None), "routes", None)
        if mounted:
            yield from all_paths(mounted, path.replace("{path:path}", "").rstrip("/"))
        else:
            yield path.replace("{path:path}", "") or "/"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_every_path_but_the_probes_and_the_page_needs_a_key(service_with_keys):
    from service.bento import Photoz, app

    paths = {*all_paths(Photoz.to_asgi().routes), *all_paths(app.routes)}
    assert {"/predict", "/predict_file", "/evaluate", "/model", "/metrics", "/docs.json", "/", "/v2"} <= paths
    assert {"/v2/models/toy/infer", "/v2/models/toy/versions/1/infer", "/schema.json", "/livez"} <= paths
    others = ["/nothing", "/static_content/x", "//model", "/ui/x", "/ui/", "/model/", "/livez/../model", "/%6dodel"]
    with httpx.Client(base_url=service_with_keys.url) as client:
        for path in [*paths, *others]:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
                status = client.request(method, path).status_code
                if path in PROBES | page.WITHOUT_KEY | {"//model"}:  # granian's path of which is "/"
                    assert status in (200, 307, 405), (method, path)
                else:
                    assert status == 401, (method, path)


@pytest.mark.parametrize(("scheme", "key", "name"), [("Bearer", KEY, "alice"), ("bearer", "another", "bob")])
def test_each_key_is_accepted_and_logged_by_its_name(service_with_keys, scheme, key, name):
    assert get(service_with_keys, "/model", authorization=f"{scheme} {key}").status_code == 200
    wait_for(lambda: f'"key": "{name}"' in service_with_keys.log.read_text())
    assert key not in service_with_keys.log.read_text()


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", NEEDED),
        ("Bearer", NEEDED),
        (KEY, NEEDED),
        (f"Basic {KEY}", NEEDED),
        ("Bearer wrong-key", UNKNOWN),
        ("Bearer \xff", UNKNOWN),
    ],
)
def test_other_headers_are_refused(service_with_keys, authorization, message):
    refused = get(service_with_keys, "/model", authorization=authorization.encode("latin-1"))
    check_error(refused, 401, message)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "wrong-key" not in service_with_keys.log.read_text()


def test_key_in_a_trailer_does_not_count(service_with_keys):
    headers = "Transfer-Encoding: chunked", "Authorization: Bearer wrong", "Trailer: Authorization"
    with RawConnection(service_with_keys.url) as connection:
        connection.send(
            head("/predict_file", *headers) + f"1\r\nx\r\n0\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
        )
        check_error(connection.read_response(), 401, UNKNOWN)


def test_changed_file_is_reloaded_and_a_damaged_one_ignored(service_with_keys, tmp_path):
    path, log = service_with_keys.log.with_name("keys"), service_with_keys.log
    before = path.read_text()
    path.write_text(line("carol", "new"))
    wait_for(lambda: get(service_with_keys, "/model", "new").status_code == 200)
    assert get(service_with_keys, "/model", KEY).status_code == 401
    path.write_text("carol new\n")
    wait_for(lambda: get(service_with_keys, "/model", "new") and "API keys not reloaded" in log.read_text())
    assert get(service_with_keys, "/model", "new").status_code == 200
    replacement = tmp_path / "keys"
    replacement.write_text(before)
    replacement.replace(path)  # as a mounted secret changes
    wait_for(lambda: get(service_with_keys, "/model", KEY).status_code == 200)
    status = path.stat()
    path.write_text(before.replace(line("alice", KEY), line("alice", "x" * len(KEY))))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps times
    wait_for(lambda: get(service_with_keys, "/model", KEY).status_code == 401)
    path.write_text(before)


def test_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "keys")
    with pytest.raises(InvalidInput, match="it is not a regular file"):
        ApiKeys(tmp_path / "keys")


def test_file_without_keys_admits_no_request(tmp_path):
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(RequestError, match="unknown API key"):
        ApiKeys(tmp_path / "keys").check("Bearer x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("alice my-secret", "line 1 is not one"),
        (line("alice", "a") + line("alice", "b"), "line 2 repeats a name"),
        ("\xff", "cannot be read"),
    ],
)
def test_invalid_file_is_refused_without_quoting_it(tmp_path, content, message):
    (tmp_path / "keys").write_text(content, encoding="latin-1")
    with pytest.raises(InvalidInput, match=message) as refused:
        read_keys(tmp_path / "keys")
    assert "my-secret" not in str(refused.value)


def test_command_creates_a_key(tmp_path):
    created = CliRunner().invoke(main, ["keys", "create", "alice"])
    key = created.stderr.splitlines()[-1]
    assert key not in created.stdout
    (tmp_path / "keys").write_text(created.stdout)
    assert ApiKeys(tmp_path / "keys").check(f"Bearer {key}") == "alice"
    refused = CliRunner().invoke(main, ["keys", "create", "a b"])
    assert refused.exit_code == 1
    assert "'a b' cannot be a name: expected letters, digits and . _ @ -, at most 64" in refused.output
