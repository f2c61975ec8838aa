"""`photoz score` from S3 to S3, through a proxy that injects faults: no row is lost, and none is there twice."""

import os
import re
import signal
import subprocess
import threading
import time

import fsspec
import h5py
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_survey.inputs import find_inputs, has_changed
from photoz_survey.manifest import ScoreOptions
from photoz_survey.run import Run
from photoz_survey.storage import local_copy
from photoz_survey.workers import score_here
from tests.running import ROOT
from tests.survey.s3_proxy import KEY, Proxy
from tests.survey.test_score import ENVIRONMENT, command, rows
from tests.toys import GRIZ, galaxies

pytest.importorskip("s3fs", reason="needs s3fs")
moto_server = pytest.importorskip("moto.server", reason="needs moto[s3] and flask-cors")
boto3 = pytest.importorskip("boto3", reason="needs moto[s3] and flask-cors")

N_FILES, N_ROWS = 16, 20


@pytest.fixture(scope="module")
def proxy():
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    with Proxy(server.get_host_and_port()[1]) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()
    server.stop()


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    """Files of cutouts on this machine; one has a row without pixels, and one is broken."""
    folder = tmp_path_factory.mktemp("in")
    for number in range(N_FILES):
        images = galaxies(GRIZ, N_ROWS, seed=number)
        if number == 3:
            images[7] = np.nan
        with h5py.File(folder / f"{number:02d}.h5", "w") as file:
            file["images"], file["ebv"] = images, np.linspace(0, 0.2, N_ROWS)
    (folder / "broken.h5").write_bytes(b"no HDF5")
    return folder


@pytest.fixture(scope="module")
def expected(cutouts, bundle, tmp_path_factory):
    """The rows of a run from files to files; each file is a part, as on S3: the last bit depends on the batch."""
    out = tmp_path_factory.mktemp("out")
    settings = ScoreOptions(pdf="float32", rows_per_part=N_ROWS)
    run = Run.begin([str(cutouts)], bundle.path, settings, str(out), resume=False)
    list(score_here(run.plan, bundle.path, run.folder, run.missing(), workers=1))
    return named_rows(out)


def named_rows(folder):
    """Return the values of all rows of a run, which are different, by file and row; None for those rejected."""
    found = [(row, row) for row in rows(folder)] + [(row, None) for row in rows(folder, "rejected")]
    named = {(os.path.basename(row.pop("file")), row["row"]): values for row, values in found}
    assert len(named) == len(found)
    return named


@pytest.fixture
def s3(proxy, cutouts, monkeypatch):
    """A client without faults of a bucket that has the files; other clients get the address of the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{proxy.upstream}")
    client.create_bucket(Bucket="survey")
    for path in cutouts.iterdir():
        client.put_object(Bucket="survey", Key=f"in/{path.name}", Body=path.read_bytes())
    yield client
    proxy.heal()
    client.delete_objects(Bucket="survey", Delete={"Objects": [{"Key": key} for key in keys(client)]})
    client.delete_bucket(Bucket="survey")
    client.close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def keys(client, prefix=""):
    return [one["Key"] for one in client.list_objects_v2(Bucket="survey", Prefix=prefix).get("Contents", ())]


def scored(client, folder):
    """Return the rows of the run in the bucket."""
    for key in keys(client, "out/"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        client.download_file("survey", key, str(folder / key))
    return named_rows(folder / "out")


def start(bundle, *options, **variables):
    """Start the command, which has the address and the keys from its environment."""
    arguments = ["--bundle", bundle.path, "-o", "s3://survey/out", "--workers", 2, "--pdf", "float32", *options]
    environment = {**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"], **variables}
    return subprocess.Popen(
        command("s3://survey/in", *arguments), env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def wait_for_parts(client, process, n):
    while len(keys(client, "out/done/")) < n:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def assert_ends_well(process):
    message = process.communicate()[1]
    assert process.returncode == 0, message
    assert message.count("\n") == 1, message


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [{}, {"500": 0.05, "503": 0.05, "reset": 0.04, "lost": 0.04, "cut": 0.05, "short": 0.05, "slow": 0.05}],
    ids=["none", "many"],
)
def test_the_result_is_that_of_files(s3, proxy, bundle, expected, tmp_path, faults):
    proxy.faults = faults
    assert_ends_well(start(bundle, AWS_MAX_ATTEMPTS="10"))  # by default 5
    assert proxy.injected.total() >= 24 * bool(faults)
    np.testing.assert_equal(scored(s3, tmp_path), expected)


@pytest.mark.slow
def test_a_run_that_was_stopped_is_resumed(s3, proxy, bundle, expected, tmp_path):
    proxy.faults = {"slow": 1.0}
    process = start(bundle)
    wait_for_parts(s3, process, 3)
    process.kill()
    process.communicate()
    process = start(bundle, "--resume", AWS_MAX_ATTEMPTS="2")
    wait_for_parts(s3, process, 7)
    proxy.faults = {"500": 1.0}
    message = process.communicate()[1].splitlines()
    assert process.returncode == 1
    assert len(message) == 2
    assert re.fullmatch(r"Error: s3://survey/.*: (We encountered an error\.|Internal Server Error)", message[1])
    assert 7 <= len(keys(s3, "out/done/")) < N_FILES
    proxy.heal()
    assert_ends_well(start(bundle, "--resume"))
    np.testing.assert_equal(scored(s3, tmp_path), expected)


def test_an_object_that_was_replaced_is_noticed(s3, bundle):
    begin = ["s3://survey/in"], bundle.path, ScoreOptions(), "s3://survey/out"
    run = Run.begin(*begin, resume=False)
    assert not any(map(has_changed, run.plan.inputs))
    body = s3.get_object(Bucket="survey", Key="in/04.h5")["Body"].read()
    s3.put_object(Bucket="survey", Key="in/04.h5", Body=body[:-1] + b"1")
    assert [file.path for file in run.plan.inputs if has_changed(file)] == ["s3://survey/in/04.h5"]
    with pytest.raises(InvalidInput, match=r"s3://survey/in/04\.h5 has changed since the run was begun"):
        Run.begin(*begin, resume=True)


def test_a_folder_that_cannot_be_listed_is_an_error(s3, proxy, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for key in ("in/a/1.h5", "in/b/2.h5", "in/b/c/3.h5"):
        s3.put_object(Bucket="survey", Key=key)
    assert [file.path[-6:] for file in find_inputs(["s3://survey/i?/[ab]/*.h5"])] == ["a/1.h5", "b/2.h5"]
    assert [file.path[-6:] for file in find_inputs(["s3://survey/in/**/[123].h5"])] == ["a/1.h5", "b/2.h5", "c/3.h5"]
    proxy.faults, proxy.where = {"500": 1.0}, lambda request: "prefix=in%2Fb" in request.path
    with pytest.raises(OSError, match=r"s3://survey/\*/\*/\*\.h5: We encountered an error"):
        find_inputs(["s3://survey/*/*/*.h5"])


def test_a_copy_is_whole(s3, proxy, cutouts, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_block_size": 10_000})  # the file is large to s3fs
    proxy.faults, proxy.where = {"cut": 1.0}, lambda request: proxy.injected.total() < 2
    with local_copy("s3://survey/in/00.h5") as path:
        assert path.read_bytes() == (cutouts / "00.h5").read_bytes()
    proxy.where = lambda request: True
    for _ in range(2):
        with pytest.raises(OSError, match=r"s3://survey/in/00\.h5: "), local_copy("s3://survey/in/00.h5"):
            pass
    assert proxy.injected.total() > 10  # more than s3fs has connections
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "size", lambda *_: 11)
    fsspec.filesystem("memory").pipe_file("/a.h5", b"0123456789")
    with pytest.raises(OSError, match=r"memory://a\.h5: expected 11 bytes, got 10"), local_copy("memory://a.h5"):
        pass


@pytest.mark.parametrize(
    ("source", "output", "variables", "message"),
    [
        ("s3://missing/*.h5", "s3://survey/out", {}, "s3://missing/*.h5: The specified bucket does not exist"),
        ("s3://survey", "s3://survey/out", {}, "no file of cutouts at s3://survey"),
        ("s3://survey/i*", "s3://survey/out", {}, "s3://survey/in is a folder: from URLs, only files of cutouts"),
        ("s3://survey/in", "s3://missing/out", {}, "s3://missing/out/manifest.json: The specified bucket does not"),
        ("s3://survey/in", "s3://survey/out", {"AWS_ACCESS_KEY_ID": "wrong"}, "s3://survey/in: The access key does"),
        ("s3://survey/in", "s3://survey/out", {"AWS_PROFILE": "missing"}, "s3://survey/in: The config profile (missin"),
        ("s3://survey/in", "s3://survey/out", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://survey/in: Could not"),
        ("nothing://in", "s3://survey/out", {}, "nothing://in: Protocol not known: nothing"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(photoz, s3, bundle, monkeypatch, source, output, variables, message):
    for name, value in {"AWS_MAX_ATTEMPTS": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM)
    try:
        status, _, err = photoz("score", source, "--bundle", bundle.path, "-o", output)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status == 1
    assert err.startswith(f"Error: {message}")
    assert err.count("\n") == 1
    assert len(s3.list_buckets()["Buckets"]) == 1
