"""What happens before a worker starts: the bundle is checked, and its engine runs once where it can do no harm."""

import shutil

import pytest
from toys import GRIZ, galaxies, npy_bytes, toy_engine, toy_network

from photoz.errors import InvalidBundle
from photoz.model.bundle import ModelBundle
from service.check import logger, try_bundle
from service.settings import Settings

# Python runs a module of this name at its start: this one ends a process that is to try a certain file, as a processor
# ends one whose network divides by zero.
FATAL = """
import os, signal, sys
if any("fatal" in argument for argument in sys.orig_argv):
    os.kill(os.getpid(), signal.SIGFPE)
"""


@pytest.fixture
def fatal(make_toy_bundle, monkeypatch, tmp_path):
    """Make a bundle whose first engine ends each process that compiles it."""
    (tmp_path / "sitecustomize.py").write_text(FATAL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def make(*others):
        bundle = make_toy_bundle()
        source = tmp_path / "source"
        shutil.copytree(bundle.path, source)
        for suffix in (".xml", ".bin"):
            shutil.copy(
                (source / "openvino/model").with_suffix(suffix), (source / "openvino/fatal").with_suffix(suffix)
            )
        engines = (toy_engine("openvino-int8", "openvino/fatal.xml"), *others)
        return ModelBundle.write(tmp_path / "bundle", bundle.card.model_copy(update={"engines": engines}), source)

    return make


def test_the_engine_that_works_is_named(make_toy_bundle):
    assert try_bundle(Settings(make_toy_bundle().path)) == "openvino-f32"


def test_an_engine_that_ends_its_process_is_passed_over(fatal, monkeypatch):
    said = []
    monkeypatch.setattr(logger, "warning", lambda form, *values: said.append(form % values))
    bundle = fatal(toy_engine())
    assert try_bundle(Settings(bundle.path)) == "openvino-f32"
    assert said == [f"openvino-int8 of {bundle.path} ended its process with SIGFPE; trying openvino-f32"]


def test_an_engine_that_ends_its_process_is_refused_where_no_other_may_be_taken(fatal):
    bundle = fatal(toy_engine())
    with pytest.raises(InvalidBundle, match="ended its process with SIGFPE; try PHOTOZ_ENGINE=keras"):
        try_bundle(Settings(bundle.path, engine="openvino-int8"))


def test_the_workers_take_the_engine_that_works(fatal, start_service, tmp_path):
    import httpx

    bundle = fatal(toy_engine())
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle.path) as service:
        answer = httpx.post(f"{service.url}/predict_file", content=npy_bytes(galaxies(GRIZ, 2)))
    assert answer.status_code == 200
    assert len(answer.json()["z_mean"]) == 2
    assert "ended its process with SIGFPE; trying openvino-f32" in (tmp_path / "service.log").read_text()


def test_an_engine_for_another_network_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match=r"takes .*\(23, 23, 4\).*its card says"):
        try_bundle(Settings(make_toy_bundle(network=toy_network(23, 4, 90, takes_ebv=True)).path))


def test_a_file_that_is_no_network_is_refused(make_toy_bundle, tmp_path):
    bundle = make_toy_bundle()
    shutil.copytree(bundle.path, tmp_path / "source")
    (tmp_path / "source/openvino/model.xml").write_text("<net>")
    broken = ModelBundle.write(tmp_path / "broken", bundle.card, tmp_path / "source")
    with pytest.raises(InvalidBundle, match=r"OpenVINO cannot read .*model\.xml"):
        try_bundle(Settings(broken.path))


def test_a_bundle_without_a_compiled_network_is_tried_with_keras(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="Keras cannot read"):  # the toy's file is none
        try_bundle(Settings(make_toy_bundle(engines=()).path))
