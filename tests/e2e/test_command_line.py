"""The help, the examples and the exit codes of `photoz`, `python -m training` and `python -m service`."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import click
import numpy as np
import pytest

from photoz_client import cli
from service.cli import main as service_main
from tests.running import ROOT, serve_environment
from training.cli import main as training_main

PROGRAMS = {"photoz": cli.photoz, "python -m training": training_main, "python -m service": service_main}
PHOTOZ = [sys.executable, "-c", "from photoz_client.cli import main; main()"]
NOWHERE = "http://127.0.0.1:9"
ENVIRONMENT = serve_environment(ROOT)


def leaves(name, command):
    """Yield all commands with the context that they run in."""
    context = click.Context(command, info_name=name, **command.context_settings)
    todo = [(context, command)]
    while todo:
        context, command = todo.pop()
        if not isinstance(command, click.Group):
            yield context, command
            continue
        for child in command.list_commands(context):
            subcommand = command.get_command(context, child)
            if not subcommand.hidden:
                todo.append((click.Context(subcommand, info_name=child, parent=context), subcommand))


COMMANDS = {
    context.command_path: (context, command)
    for name, program in PROGRAMS.items()
    for context, command in leaves(name, program)
}


def test_all_commands_are_found():
    assert len(COMMANDS) == 8 + 6 + 4
    assert {path.split()[-1] for path in COMMANDS} >= {"predict", "sky", "learning-curve", "create"}


@pytest.mark.parametrize("path", COMMANDS)
def test_help_is_plain_text_and_ends_with_examples(path):
    context, command = COMMANDS[path]
    text = command.get_help(context)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]|\\[a-z]", text)
    assert "  -h, --help " in text
    examples = text.partition("\nExamples:\n")[2].splitlines()
    assert examples == [f"  {example}" for example in command.examples]
    assert 1 <= len(examples) <= 2
    assert all(f"{path} " in f"{example} " for example in examples)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_the_programs_is_plain_text(program):
    text = PROGRAMS[program].get_help(click.Context(PROGRAMS[program], info_name=program))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]|\\[a-z]", text)


def test_the_list_says_what_each_command_says():
    listed = {
        path.split()[1]: command.help.partition("\n")[0]
        for path, (_, command) in COMMANDS.items()
        if path.startswith("photoz ")
    }
    assert listed == cli.HELP


def test_the_list_in_the_documents_is_that_of_the_program(photoz):
    guide = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^```\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    assert photoz("-h")[1].partition("\n\n")[2].endswith(f"\n\n{listed}")


def test_options_of_one_name_have_one_spelling():
    names = {}
    for path, (_, command) in COMMANDS.items():
        for option in command.params:
            for name in option.opts:
                names.setdefault(name, {}).setdefault(tuple(option.opts), []).append(path)
    assert {name: spellings for name, spellings in names.items() if len(spellings) > 1} == {}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "models").mkdir()
    (folder / "models" / "photoz").symlink_to(ROOT / "models" / "photoz")
    (folder / "data").mkdir()
    for name in ("mine.h5", "data/sample.h5", "galaxies.csv"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "example",
    [example for path, (_, command) in COMMANDS.items() if path.startswith("python") for example in command.examples],
)
def test_examples_are_right_usage(checkout, monkeypatch, example):
    monkeypatch.chdir(checkout)
    program = re.search(r"python -m \w+", example)[0]
    command, arguments = PROGRAMS[program], shlex.split(example.partition(f"{program} ")[2])
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        _, command, arguments = command.resolve_command(context, arguments)
    assert not command.make_context(command.name, arguments, parent=context).args


@pytest.mark.e2e
def test_examples_of_photoz_run(checkout, monkeypatch, photoz, service_url):
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    for path in ("predict", "evaluate", "compare", "model", "wait", "score", "nz"):
        for example in COMMANDS[f"photoz {path}"][1].examples:
            arguments = shlex.split(re.sub(r"http://127\.0\.0\.1:300\d", service_url, example))[1:]
            status, _, err = photoz(*arguments)
            assert status == 0, (example, err)
    assert {path.name for path in checkout.iterdir()} >= {
        "redshifts.npz",
        "report.html",
        "pit.png",
        "scored",
        "nz.parquet",
        "nz.npz",
        "nz.png",
    }


@pytest.mark.e2e
def test_json_is_all_that_is_printed(checkout, monkeypatch, photoz, service_url, tmp_path):
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PHOTOZ_URL", service_url)

    def output(*arguments):
        status, out, err = photoz(*arguments, "--json")
        assert status == 0, err
        return json.loads(out)

    cutouts, bundle = "examples/cutouts.npz", ROOT / "models" / "photoz"
    predicted = output("predict", cutouts, "--quantiles", "0.5")
    assert len(predicted["z_q50"]) == 8
    assert "pdf" not in predicted
    assert np.shape(output("predict", cutouts, "--pdf")["pdf"]) == (8, 180)
    assert output("evaluate", cutouts)["scores"].keys() >= {"sigma_mad", "crps"}
    scored = output("score", cutouts, "--bundle", bundle, "-o", tmp_path / "out", "--pdf")
    assert (scored["n_done"], scored["n_rejected"]) == (8, 0)
    assert 0 < scored["differences"]["z_mean"] <= 1
    (bin,) = output("nz", tmp_path / "out", "--edges", "0,0.4", "-o", tmp_path / "nz.npz")
    assert (bin["n"], bin["n_spec"]) == (8, 8)
    assert bin["mean"] == pytest.approx(np.mean(predicted["z_mean"]), abs=0.01)
    assert photoz("predict", cutouts, "--json", "-o", tmp_path / "z.csv")[0] == 2
    assert photoz("score", cutouts, "--bundle", bundle, "--estimate", 9, "--json")[0] == 2


def test_help_and_completion_import_no_numpy():
    def run(arguments, **variables):
        program = f"import atexit, sys; atexit.register(lambda: print('numpy' in sys.modules)); {PHOTOZ[-1]}"
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, env=ENVIRONMENT | variables, capture_output=True, text=True, check=True).stdout

    assert run(["-h"]).endswith("False\n")
    complete = {"_PHOTOZ_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert run([], **complete, COMP_WORDS="photoz s") == "plain,score\nplain,sky\nFalse\n"
    assert "plain,--select\n" in run([], **complete | {"COMP_CWORD": "3"}, COMP_WORDS="photoz nz x --s")


@pytest.mark.parametrize(
    ("program", "arguments", "status"),
    [
        (PHOTOZ, ["--version"], 0),
        (PHOTOZ, ["model", "--url", NOWHERE], 1),
        (PHOTOZ, ["model", "--api-key-file", "missing"], 2),
        (PHOTOZ, ["compare", NOWHERE, NOWHERE, "examples/cutouts.npz"], 2),
        ([sys.executable, "-m", "training"], ["sample", "-h"], 0),
        ([sys.executable, "-m", "training"], ["convert", "missing.h5", "out.h5"], 1),
        ([sys.executable, "-m", "training"], ["evaluate", "--all", "models/photoz", "missing.h5"], 2),
        ([sys.executable, "-m", "service"], ["store", "add", "missing"], 1),
        ([sys.executable, "-m", "service"], ["store", "add"], 2),
    ],
)
def test_exit_code(program, arguments, status):
    done = subprocess.run([*program, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    if status == 1:
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("sent", "status", "message"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_exit_code_after_a_signal(sent, status, message):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [*PHOTOZ, "model", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(sent)
            _, err = process.communicate(timeout=60)
    code = process.returncode
    assert (code if code >= 0 else 128 - code, err) == (status, message)  # a shell adds 128 to the signal


def test_exit_codes_are_documented():
    guide = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", guide, flags=re.MULTILINE) == ["0", "1", "2", "130", "143"]
