"""The key of a service, as the command `photoz` takes it."""

import numpy as np
import pytest
from unruly import Answer, numbered, refusal, serving

from photoz_client.cli import main

KEY = "pz_s3cret.key-of~nobody+/=="
SIGNED = f"Bearer {KEY}"


def _wants_key(*_):
    return refusal(401, "expected a key", WWW_Authenticate="Bearer")


@pytest.fixture
def photoz(capsys):
    """Run the command in this process; returns its status and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        return done.value.code or 0, capsys.readouterr().err

    return run


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def test_the_command_takes_the_key_from_a_file_or_the_environment(photoz, key_file, monkeypatch):
    with serving(lambda asked: Answer(200, b"")) as server:
        assert photoz("wait", "--url", server.url, "--api-key-file", key_file) == (0, "")
        monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
        assert photoz("wait", "--url", server.url) == (0, "")
        assert photoz("wait", "--url", server.url, "--api-key-file", key_file) == (0, "")
        assert server.authorizations == [SIGNED, "Bearer of-the-environment", SIGNED]


def test_each_command_takes_the_file_and_none_takes_the_key_itself(photoz, key_file, tmp_path):
    np.savez(tmp_path / "cutouts.npz", images=numbered(2), z_spec=np.ones(2))
    with serving(_wants_key) as server:
        server.tell_names = _wants_key
        for command in (["predict", tmp_path / "cutouts.npz"], ["evaluate", tmp_path / "cutouts.npz"], ["model"]):
            status, err = photoz(*command, "--url", server.url, "--api-key-file", key_file)
            assert (status, err.count("\n")) == (1, 1)
            assert "the key that was sent does not open" in err
            assert photoz(*command, "--api-key", KEY)[0] == 2
        assert server.authorizations == [SIGNED] * 3


@pytest.mark.parametrize("content", [b"", b"\n", b"a key\n", b"one\ntwo\n", b"\x93NUMPY\x01\x00", b"k" * 100_000])
def test_a_file_that_holds_no_key_is_refused_with_one_line_that_does_not_show_it(photoz, tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    status, err = photoz("model", "--api-key-file", tmp_path / "key")
    assert status == 1
    assert err.startswith(f"Error: expected {tmp_path / 'key'} to hold an API key of printable ASCII characters")
    assert err.count("\n") == 1
    assert "kkk" not in err
    assert "two" not in err
