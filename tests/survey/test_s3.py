"""`photoz score` from S3 to S3, whose server has faults: no row is lost, and none is there twice."""

import os
import re
import socket
import threading
import time
from collections import Counter

import fsspec
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_survey.inputs import find_inputs, has_changed
from photoz_survey.manifest import ScoreOptions
from photoz_survey.run import Run
from photoz_survey.storage import local_copy
from tests.survey.conftest import rows

pytest.importorskip("s3fs", reason="needs s3fs: pip install 'photoz[s3]'")
moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[s3]' flask-cors")

ERROR = b"<Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>"


class FaultyS3:
    """An S3 server; `fault` says what to do to a request, such as "PUT /bucket/key": "" is nothing."""

    def __init__(self):
        self.app, self.injected = moto.DomainDispatcherApplication(moto.create_backend_app), Counter()

    def __call__(self, environ, start_response):
        fault = self.fault(f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']}")
        self.injected[fault] += 1
        if fault in ("500", "503"):
            start_response(f"{fault} Error", [("Content-Length", str(len(ERROR)))])
            return [ERROR]
        time.sleep(0.2 if fault == "slow" else 0.0)
        content = b"" if fault == "drop" else b"".join(self.app(environ, start_response))
        if fault in ("drop", "lost"):  # it is done, but the client does not get to know
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError(fault)
        return [content[: len(content) // 2] if fault == "cut" else content]


@pytest.fixture(scope="module")
def server():
    from werkzeug.serving import make_server  # a requirement of moto

    server = make_server("127.0.0.1", 0, FaultyS3(), threaded=True, request_handler=moto.MotoRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3(server, write_cutouts, tmp_path, monkeypatch):
    """The file system of a server whose bucket has some files, one of them broken; `s3.server` may get faults."""
    variables = {"ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "MAX_ATTEMPTS": "1"}
    for name, value in (variables | {"ACCESS_KEY_ID": "photoz", "SECRET_ACCESS_KEY": "secret"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    (tmp_path / "in").mkdir()
    for number in range(8):
        ebv = np.where(np.arange(20) == 7 + 4 * number, -1.0, 0.1)  # some cannot be scored
        write_cutouts(f"in/{number:02d}.h5", 20, seed=number, ebv=ebv)
    (tmp_path / "in/broken.h5").write_bytes(b"no HDF5")
    s3 = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    s3.server = server.app
    s3.server.fault = lambda request: ""
    s3.mkdir("survey")
    s3.put([str(path) for path in (tmp_path / "in").iterdir()], "survey/in/")
    yield s3
    s3.server.fault = lambda request: ""
    s3.rm("survey", recursive=True)
    type(s3).clear_instance_cache()


def all_rows(folder):
    """Return all rows of a run, done and rejected: the names of their files and galaxies as text, without reasons."""
    found = rows(folder) + rows(folder, "rejected")
    return [
        row | {"file": os.path.basename(row["file"]), "object_id": str(row["object_id"]), "reason": ""} for row in found
    ]


@pytest.mark.parametrize("share", [0.0, pytest.param(0.05, marks=pytest.mark.acceptance)])
def test_a_run_that_an_error_stopped_is_resumed(photoz, s3, bundle, score, tmp_path, monkeypatch, here, share):
    """Beside the error, requests have each of the faults with a probability."""
    options = ("score", "s3://survey/in", "--bundle", bundle.path, "-o", "s3://survey/out", "--pdf", "float32")
    s3.server.fault = lambda request: "500" * request.startswith("PUT /survey/out/done/part-0000005")
    status, _, err = photoz(*options)
    begun, error = err.splitlines()
    assert (status, begun) == (1, "9 files, 9 of unknown length; 9 of 9 parts to score")
    name = re.escape("s3://survey/out/done/part-0000005.parquet")
    assert re.fullmatch(rf"Error: {name}: (We encountered an error\.|Internal Server Error)", error)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "10")  # by default 5
    type(s3).clear_instance_cache()
    rng, faults = np.random.default_rng(1), ["500", "503", "drop", "lost", "cut", "slow", ""]
    s3.server.fault = lambda request: rng.choice(faults, p=[share] * 6 + [1.0 - 6 * share])
    s3.server.injected.clear()
    status, out, err = photoz(*options, "--resume")
    assert (status, err) == (0, "9 files, 9 of unknown length; 4 of 9 parts to score\n")
    assert s3.server.injected.total() - s3.server.injected[""] >= 200 * share
    assert out.startswith("156 rows with estimates, 5 rejected\n")
    s3.server.fault = lambda request: ""
    s3.get("survey/out", str(tmp_path / "out"), recursive=True)
    # Each file is a part, as on S3: the last bit depends on the batch.
    score(tmp_path / "in", output=tmp_path / "local", pdf="float32", rows_per_part=20)
    np.testing.assert_equal(all_rows(tmp_path / "out"), all_rows(tmp_path / "local"))


def test_an_object_that_was_replaced_is_noticed(s3, bundle):
    begin = ["s3://survey/in"], bundle.path, ScoreOptions(), "s3://survey/out"
    inputs = Run.begin(*begin, resume=False).plan.inputs
    assert not any(map(has_changed, inputs))
    s3.pipe_file("survey/in/04.h5", s3.cat_file("survey/in/04.h5")[:-1] + b"1")
    assert [file.path for file in inputs if has_changed(file)] == ["s3://survey/in/04.h5"]
    with pytest.raises(InvalidInput, match=r"s3://survey/in/04\.h5 has changed since the run was begun"):
        Run.begin(*begin, resume=True)


def test_a_folder_that_cannot_be_listed_is_an_error(s3):
    for key in ("a/1.h5", "b/2.h5", "b/c/3.h5"):
        s3.pipe_file(f"survey/in/{key}", b"")
    assert [file.path[-6:] for file in find_inputs(["s3://survey/i?/[ab]/*.h5"])] == ["a/1.h5", "b/2.h5"]
    assert [file.path[-6:] for file in find_inputs(["s3://survey/in/**/[123].h5"])] == ["a/1.h5", "b/2.h5", "c/3.h5"]
    s3.server.fault = lambda request: "500" * ("prefix=in%2Fb" in request)
    with pytest.raises(OSError, match=r"s3://survey/\*/\*/\*\.h5: We encountered an error"):
        find_inputs(["s3://survey/*/*/*.h5"])


def test_a_copy_is_whole(s3, tmp_path, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"default_block_size": 10_000})  # the file is large to s3fs
    s3.server.injected.clear()
    s3.server.fault = lambda request: "cut" * request.startswith("GET")
    for _ in range(2):
        with pytest.raises(OSError, match=r"s3://survey/in/00\.h5: "), local_copy("s3://survey/in/00.h5"):
            pass
    assert s3.server.injected["cut"] == 10  # as many as s3fs has connections, which are free again
    s3.server.fault = lambda request: ""
    with local_copy("s3://survey/in/00.h5") as path:
        assert path.read_bytes() == (tmp_path / "in/00.h5").read_bytes()
    assert not path.exists()
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "size", lambda *_: 11)
    memory.pipe_file("/a.h5", b"0123456789")
    with pytest.raises(OSError, match=r"memory://a\.h5: expected 11 bytes, got 10"), local_copy("memory://a.h5"):
        pass


def test_what_is_wrong_is_said_in_one_line(photoz, s3, bundle):
    for source, output, message in [
        ("s3://missing/*.h5", "s3://survey/out", "s3://missing/*.h5: The specified bucket does not exist"),
        ("s3://survey", "s3://survey/out", "no file of cutouts at s3://survey"),
        ("s3://survey/i*", "s3://survey/out", "s3://survey/in is a folder: from URLs, only files of cutouts"),
        ("s3://survey/in", "s3://missing/out", "s3://missing/out/manifest.json: The specified bucket does not"),
        ("nothing://in", "s3://survey/out", "nothing://in: Protocol not known: nothing"),
    ]:
        status, _, err = photoz("score", source, "--bundle", bundle.path, "-o", output)
        assert (status, err[: len(message) + 7], err.count("\n")) == (1, f"Error: {message}", 1)
