"""The API key option of the command `photoz`."""

import httpx
import numpy as np
import pytest

from tests.client.answers import error, numbered_cutouts
from tests.client.misbehaving_server import serve

KEY = "pz_s3cret.key-of~nobody+/=="
SIGNED = f"Bearer {KEY}"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def test_the_key_comes_from_the_file_or_else_the_environment(photoz, key_file, monkeypatch):
    with serve(lambda request: httpx.Response(200)) as server:
        assert photoz("wait", "--url", server.url, "--api-key-file", key_file) == (0, "", "")
        monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
        assert photoz("wait", "--url", server.url) == (0, "", "")
        assert photoz("wait", "--url", server.url, "--api-key-file", key_file) == (0, "", "")
        assert server.authorizations == [SIGNED, "Bearer of-the-environment", SIGNED]


def test_every_subcommand_takes_a_file_and_none_takes_the_key_itself(photoz, key_file, tmp_path):
    np.savez(tmp_path / "cutouts.npz", images=numbered_cutouts(2), z_spec=np.ones(2))
    refused = error(401, "expected a key", WWW_Authenticate="Bearer")
    with serve(lambda request: refused) as server:
        server.index = lambda: refused
        for command in (["predict", tmp_path / "cutouts.npz"], ["evaluate", tmp_path / "cutouts.npz"], ["model"]):
            status, _, err = photoz(*command, "--url", server.url, "--api-key-file", key_file)
            assert (status, err.count("\n")) == (1, 1)
            assert "does not accept the API key that was sent" in err
            assert photoz(*command, "--api-key", KEY)[0] == 2
        assert server.authorizations == [SIGNED] * 3


@pytest.mark.parametrize("content", [b"", b"\n", b"a key\n", b"one\ntwo\n", b"\x93NUMPY\x01\x00", b"k" * 100_000])
def test_a_file_without_a_key_is_refused_and_not_shown(photoz, tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    status, _, err = photoz("model", "--api-key-file", tmp_path / "key")
    assert status == 1
    assert err.startswith(f"Error: expected {tmp_path / 'key'} to hold an API key of printable ASCII characters")
    assert err.count("\n") == 1
    assert "kkk" not in err
    assert "two" not in err
