"""Keys close everything but liveness and readiness."""

import hashlib
import os
import subprocess
import sys

import httpx
import pytest
from running import ROOT, free_port, running_service, serve_command, serve_environment
from toys import GRIZ, galaxies, npy_bytes
from wires import wait_for

from photoz.errors import InvalidInput
from service.edge.keys import OPEN_PATHS, Keys, read_keys
from service.errors import Unauthorized

KEY = "a-key-that-nobody-guesses"


def line(name, key):
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.fixture(scope="module")
def closed(make_toy_bundle, tmp_path_factory):
    """Run a service with two keys."""
    home = tmp_path_factory.mktemp("closed")
    (home / "keys").write_text("# who may\n\n" + line("alice", KEY) + line("bob", "another"))
    variables = {"PHOTOZ_API_KEYS_FILE": home / "keys", "PHOTOZ_ACCESS_LOG": "on"}
    with running_service(home, PHOTOZ_BUNDLE=make_toy_bundle().path, **variables) as running:
        yield running


def get(running, path, key=None, **headers):
    if key:
        headers["authorization"] = f"Bearer {key}"
    return httpx.get(f"{running.url}{path}", headers=headers)


@pytest.fixture(scope="module")
def paths():
    """Return every path of the service, as the application that serves it knows them."""
    command = [sys.executable, "tests/service/all_paths.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not found.returncode, found.stderr
    return found.stdout.split()


def test_no_path_answers_without_a_key_but_the_probes(closed, paths):
    assert {"/predict", "/predict_file", "/evaluate", "/model", "/metrics", "/docs.json", "/", "/v2"} <= set(paths)
    assert {"/v2/models/toy/infer", "/v2/models/toy/versions/1/infer", "/schema.json", "/livez"} <= set(paths)
    with httpx.Client(base_url=closed.url) as client:
        for path in [*paths, "/nothing", "/static_content/x", "//model", "/model/", "/livez/../model", "/%6dodel"]:
            for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
                status = client.request(method, path).status_code
                if path in OPEN_PATHS:
                    assert status in (200, 405), (method, path)
                else:
                    assert status == 401, (method, path)


def test_each_key_opens_it(closed):
    for key in (KEY, "another"):
        assert get(closed, "/model", key).status_code == 200
        answer = httpx.post(
            f"{closed.url}/predict_file",
            content=npy_bytes(galaxies(GRIZ, 1)),
            headers={"authorization": f"bearer {key}"},
        )
        assert answer.status_code == 200


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer", f"Basic {KEY}", KEY, "Bearer \xff"])
def test_nothing_else_does(closed, authorization):
    refused = get(closed, "/model", authorization=authorization.encode("latin-1"))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert list(refused.json()) == ["error"]
    assert "wrong" not in refused.json()["error"].replace("it is wrong", "")


def test_the_message_says_what_to_send(closed):
    assert get(closed, "/model").json() == {"error": "a key is needed: expected the header Authorization: Bearer KEY"}


def test_the_log_knows_names_and_never_keys(closed):
    get(closed, "/model", KEY)
    get(closed, "/model", "a-wrong-key")
    wait_for(lambda: '"key": "alice"' in closed.log.read_text())
    assert KEY not in closed.log.read_text()
    assert "a-wrong-key" not in closed.log.read_text()


def test_a_changed_file_is_read_again_and_a_damaged_one_changes_nothing(closed, tmp_path):
    path = closed.log.with_name("keys")
    before = path.read_text()
    try:
        path.write_text(line("carol", "new"))
        wait_for(lambda: get(closed, "/model", "new").status_code == 200)
        assert get(closed, "/model", KEY).status_code == 401
        path.write_text("carol new\n")
        wait_for(lambda: "the keys of before stay valid" in closed.log.read_text() or get(closed, "/model") is None)
        assert get(closed, "/model", "new").status_code == 200
        replacement = tmp_path / "keys"
        replacement.write_text(before)
        replacement.replace(path)  # as a mounted secret changes
        wait_for(lambda: get(closed, "/model", KEY).status_code == 200)
    finally:
        path.write_text(before)


def test_a_file_without_keys_lets_nobody_in(tmp_path):
    (tmp_path / "keys").write_text("# nobody\n")
    with pytest.raises(Unauthorized, match="opens nothing"):
        Keys(tmp_path / "keys").check(b"Bearer x")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("alice my-secret", "line 1 is not one"),
        (line("alice", "a") + line("alice", "b"), "line 2 names a key twice"),
        (line("al ice", "a"), "line 1 is not one"),
    ],
)
def test_a_file_that_is_none_of_keys_is_refused_without_showing_it(tmp_path, content, complaint):
    (tmp_path / "keys").write_text(content)
    with pytest.raises(InvalidInput, match=complaint) as refused:
        read_keys(tmp_path / "keys")
    assert "my-secret" not in str(refused.value)


def test_a_service_does_not_start_without_its_file_of_keys(make_toy_bundle, tmp_path):
    environment = serve_environment(
        tmp_path, PHOTOZ_BUNDLE=make_toy_bundle().path, PHOTOZ_API_KEYS_FILE=tmp_path / "none"
    )
    ended = subprocess.run(serve_command(free_port()), cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert ended.returncode == 1
    (said,) = ended.stderr.decode().splitlines()
    assert said.startswith(f"photoz: PHOTOZ_API_KEYS_FILE={tmp_path / 'none'} cannot be read: ")


def test_a_key_is_made_by_command(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "service.edge.keys", "alice"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    key = made.stderr.splitlines()[-1]
    (tmp_path / "keys").write_text(made.stdout)
    assert Keys(tmp_path / "keys").check(f"Bearer {key}".encode()) == "alice"
    assert key not in made.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "service.edge.keys", "a b"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "cannot be a name" in refused.stderr
