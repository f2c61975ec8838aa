"""Preflight: the engine of a bundle runs once in a child process, which may crash."""

import shutil

import pytest

from photoz.errors import InvalidBundle
from photoz.inference import preflight as module
from photoz.inference.preflight import preflight
from photoz.model.bundle import ModelBundle
from tests.running import ROOT
from tests.toys import toy_engine, toy_network

# Python imports a module of this name at start-up: this one ends a process that compiles a certain file, as some
# processors end one whose network divides by zero.
FATAL = """
import os, signal
import photoz.inference.openvino as openvino

compile_network = openvino.compile_network

def compile_or_crash(path, *options):
    if "fatal" in str(path):
        os.kill(os.getpid(), signal.SIGFPE)
    return compile_network(path, *options)

openvino.compile_network = compile_or_crash
"""


@pytest.fixture
def fatal(make_toy_bundle, monkeypatch, tmp_path):
    """Make a bundle whose first engine ends each process that compiles it."""
    (tmp_path / "sitecustomize.py").write_text(FATAL)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}", prepend=":")

    def make(*others):
        bundle, source = make_toy_bundle(), tmp_path / "source"
        shutil.copytree(bundle.path, source)
        for suffix in (".xml", ".bin"):
            shutil.copy(source / f"openvino/model{suffix}", source / f"openvino/fatal{suffix}")
        engines = (toy_engine("openvino-int8", "openvino/fatal.xml"), *others)
        return ModelBundle.write(tmp_path / "bundle", bundle.card.model_copy(update={"engines": engines}), source)

    return make


def test_preflight_names_the_engine_that_works(make_toy_bundle):
    assert preflight(make_toy_bundle().path) == "openvino-f32"


def test_crashing_engine_is_skipped(fatal, monkeypatch):
    logged = []
    monkeypatch.setattr(module.logger, "warning", lambda form, *values: logged.append(form % values))
    bundle = fatal(toy_engine())
    assert preflight(bundle.path) == "openvino-f32"
    assert logged == [f"openvino-int8 of {bundle.path} ended its process with SIGFPE; trying openvino-f32"]


def test_crashing_engine_is_refused_if_it_was_asked_for(fatal):
    with pytest.raises(InvalidBundle, match="ended its process with SIGFPE; try the engine keras"):
        preflight(fatal(toy_engine()).path, "openvino-int8")


def test_engine_that_the_processor_does_not_run_is_refused(make_toy_bundle, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import photoz.inference.openvino as o\no.runs = lambda _: False\n")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}", prepend=":")
    with pytest.raises(InvalidBundle, match="openvino-f32 of .* needs a processor with bfloat16"):
        preflight(make_toy_bundle().path)


def test_engine_of_another_network_is_refused(make_toy_bundle):
    with pytest.raises(InvalidBundle, match=r"takes .*\(23, 23, 4\).*its card says"):
        preflight(make_toy_bundle(network=toy_network(23, 4, 90, takes_ebv=True)).path)


def test_file_that_is_not_a_network_is_refused(make_toy_bundle, tmp_path):
    bundle = make_toy_bundle()
    shutil.copytree(bundle.path, tmp_path / "source")
    (tmp_path / "source/openvino/model.xml").write_text("<net>")
    broken = ModelBundle.write(tmp_path / "broken", bundle.card, tmp_path / "source")
    with pytest.raises(InvalidBundle, match=r"OpenVINO cannot read .*model\.xml"):
        preflight(broken.path)


@pytest.mark.slow
def test_keras_runs_if_it_was_asked_for(bundle_path):
    assert preflight(bundle_path, "keras") == "keras"


def test_bundle_without_compiled_network_runs_keras(make_toy_bundle):
    with pytest.raises(InvalidBundle, match="Keras cannot read"):  # the toy's model.keras is not one
        preflight(make_toy_bundle(engines=()).path)
