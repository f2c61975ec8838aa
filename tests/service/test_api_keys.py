"""API keys: every path but liveness and readiness needs one."""

import hashlib
import os
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from photoz.errors import InvalidInput
from service import api_keys, openapi, page
from service.api_keys import MAX_FILE_BYTES, ApiKeys, read_keys
from service.cli import main
from service.errors import RequestError
from service.limits import PROBES
from tests.running import running_service
from tests.service.helpers import check_error, get, wait_for
from tests.service.raw_http import RawConnection, head

KEY = "a-key-that-is-hard-to-guess"
NEEDED = "an API key is needed: expected the header Authorization: Bearer KEY"
UNKNOWN = "unknown API key: it is wrong or was withdrawn"
TWO = {"alice": KEY, "bob": "another"}


def lines(**keys):
    return "".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in keys.items())


@pytest.fixture(scope="module")
def service_with_keys(make_toy_bundle, tmp_path_factory):
    home = tmp_path_factory.mktemp("keys")
    (home / "keys").write_text("# a comment\n\n" + lines(**TWO))
    variables = {"PHOTOZ_API_KEYS_FILE": home / "keys", "PHOTOZ_ACCESS_LOG": "on"}
    with running_service(home, PHOTOZ_BUNDLE=make_toy_bundle().path, **variables) as running:
        yield running


def test_every_path_but_the_probes_and_the_page_needs_a_key(service_with_keys):
    open_paths = PROBES | page.WITHOUT_KEY | {"/table/x"}  # whose name cannot be guessed
    others = ["/nothing", "/static_content/x", "/ui/x", "/ui/", "/model/", "/livez/../model", "/%6dodel", "/docs.json"]
    with httpx.Client(base_url=service_with_keys.url, timeout=60.0) as client:
        for path in {*openapi.document()["paths"], *open_paths, *others, "/schema.json", "//model"}:
            path = path.format(model_name="toy", model_version="1", name="x")
            for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
                status = client.request(method, path).status_code
                is_open = path in open_paths | {"//model"}  # granian's path of which is "/"
                answers = (404, 405) if path == "/table/x" else (200, 307, 405) if is_open else (401,)
                assert status in answers, (method, path)


def test_requests_are_logged_by_the_name_of_their_key_and_never_the_key(service_with_keys):
    for scheme, (name, key) in zip(("Bearer", "bearer"), TWO.items(), strict=True):
        assert get(service_with_keys.url, "/model", authorization=f"{scheme} {key}").status_code == 200
        wait_for(lambda name=name: f'"key": "{name}"' in service_with_keys.log.read_text(), 60.0)
    unknown, needed = ("Bearer wrong-key", "Bearer \xff"), ("", "Bearer", KEY, f"Basic {KEY}")
    for wrong in (*unknown, *needed):
        refused = get(service_with_keys.url, "/model", authorization=wrong.encode("latin-1"))
        check_error(refused, 401, UNKNOWN if wrong in unknown else NEEDED)
        assert refused.headers["www-authenticate"] == "Bearer"
    # A key in a trailer does not count.
    headers = "Transfer-Encoding: chunked", "Authorization: Bearer wrong", "Trailer: Authorization"
    chunks = f"1\r\nx\r\n0\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    with RawConnection(service_with_keys.url) as connection:
        connection.send(head("/predict_file", *headers) + chunks)
        check_error(connection.read_response(), 401, UNKNOWN)
    assert not [key for key in (*TWO.values(), "wrong-key") if key in service_with_keys.log.read_text()]


def test_changed_file_is_reloaded_and_a_damaged_one_ignored(tmp_path, monkeypatch, caplog):
    clock, path = [100.0], tmp_path / "keys"
    path.write_text(lines(**TWO))
    monkeypatch.setattr(api_keys, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    keys = ApiKeys(path)

    def after(seconds, content=None):
        content is None or path.write_text(content)
        clock[0] += seconds
        accepted = []
        for key in (*TWO.values(), "new"):
            with suppress(RequestError):
                accepted.append(keys.check(f"Bearer  {key} "))
        return accepted

    assert (keys.n_keys, after(0)) == (2, ["alice", "bob"])
    with caplog.at_level("INFO", "bentoml.photoz"):
        assert after(0.75, lines(carol="new")) == ["alice", "bob"]
        assert after(0.25, lines(carol="new")) == ["carol"]
        assert after(1.0, "carol new\n") == ["carol"]
        (tmp_path / "other").write_text(lines(**TWO))
        (tmp_path / "other").replace(path)  # as a mounted secret changes
        assert after(1.0) == ["alice", "bob"]
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_text(lines(alice="x" * len(KEY), bob="another"))
        os.utime(path, ns=times)  # as a copy that keeps times
        assert after(1.0) == ["bob"]
        assert after(1.0, "# none\n") == []
    reloaded, damaged, *_ = caplog.messages
    assert reloaded == f"reloaded 1 API keys from {path}"
    assert damaged.startswith("API keys not reloaded, the previous ones stay valid: PHOTOZ_API_KEYS_FILE=")
    assert len(caplog.messages) == 5


def test_invalid_file_is_refused_without_quoting_it(tmp_path):
    path = tmp_path / "keys"
    for content, message in (
        ("# mine\nalice my-secret", "prints them; line 2 is not one"),
        (lines(alice="a") + lines(alice="b"), "prints them; line 2 repeats a name"),
        ("\xff", "cannot be read: "),
        ("#" * (MAX_FILE_BYTES + 1), "cannot be read: it has 1,048,577 bytes; expected lines NAME SHA256, as"),
    ):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(InvalidInput, match=message) as refused:
            read_keys(path)
        assert "my-secret" not in str(refused.value)
    path.write_text("#" * MAX_FILE_BYTES)
    assert read_keys(path) == {}
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="it is not a regular file"):
        ApiKeys(tmp_path / "pipe")


def test_command_creates_a_key(tmp_path):
    created = CliRunner().invoke(main, ["keys", "create", "a" * 64])
    key = created.stderr.splitlines()[-1]
    assert key not in created.stdout
    assert len(key) == 43  # 256 bits
    (tmp_path / "keys").write_text(created.stdout)
    assert ApiKeys(tmp_path / "keys").check(f"Bearer {key}") == "a" * 64
    for name in ("a b", "a" * 65):
        refused = CliRunner().invoke(main, ["keys", "create", name])
        assert refused.exit_code == 1
        assert f"'{name}' cannot be a name: expected letters, digits and . _ @ -, at most 64" in refused.output
