"""Options of the training commands that are checked before any work begins."""

import pytest
from click.testing import CliRunner

from training.cli import main


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--select", "z_spec", "expected conditions such as dered_petro_r<=17.8,z_spec<=0.4, got 'z_spec'"),
        ("--split", "0.7,0.3", "expected three numbers such as 0.7,0.1,0.2, got '0.7,0.3'"),
        ("--split", "1,0,0.2", "expected three numbers above 0, got '1,0,0.2'"),
    ],
)
def test_unusable_options_are_refused(tmp_path, option, text, message):
    (tmp_path / "data.h5").touch()
    done = CliRunner().invoke(main, ["train", "--data", str(tmp_path / "data.h5"), option, text])
    assert done.exit_code == 2
    assert f"Error: Invalid value for '{option}': {message}" in done.output
