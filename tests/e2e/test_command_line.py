"""The help, the examples and the exit codes of `photoz`, `python -m training` and `python -m service`; a key."""

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from photoz_client import NotAuthorised, PhotozClient, cli
from service.cli import main as service_main
from tests.running import ROOT, serve_environment
from training.cli import main as training_main

PROGRAMS = {"photoz": cli.photoz, "python -m training": training_main, "python -m service": service_main}
PHOTOZ = [sys.executable, "-c", "from photoz_client.cli import main; main()"]
ENVIRONMENT = serve_environment(ROOT)
GUIDE = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")


def context_of(name, command, parent=None):
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def leaves(context):
    """Yield the contexts of all commands of a program or group."""
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        child = context_of(name, command, context)
        if isinstance(command, click.Group):
            yield from leaves(child)
        elif not command.hidden:
            yield child


COMMANDS = {leaf.command_path: leaf for name, program in PROGRAMS.items() for leaf in leaves(context_of(name, program))}
EXAMPLES = {path: leaf.command.examples for path, leaf in COMMANDS.items()}


@pytest.mark.parametrize("path", [*PROGRAMS, *COMMANDS])
def test_help_is_plain_text_and_ends_with_examples(path):
    context = COMMANDS.get(path) or context_of(path, PROGRAMS[path])
    text = context.command.get_help(context)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]|\\[a-z]", text)
    assert "  -h, --help " in text
    defaults = [option.default for option in context.command.params if type(option.default) in (int, float, str)]
    defaults = [value for value in defaults if value != ""]
    assert not [value for value in defaults if not re.search(rf"default:\s+{re.escape(str(value))}", text)]
    if path in COMMANDS:
        examples = text.partition("\nExamples:\n")[2].splitlines()
        assert examples == [f"  {example}" for example in EXAMPLES[path]]
        assert 1 <= len(examples) <= 2
        assert all(f"{path} " in f"{example} " for example in examples)


def test_all_commands_are_listed_and_options_of_one_name_have_one_spelling(photoz):
    assert len(COMMANDS) == 9 + 7 + 4
    helps = {path: leaf.command.help.partition("\n")[0] for path, leaf in COMMANDS.items() if path[:6] == "photoz"}
    assert {f"photoz {name}": text for name, text in cli.HELP.items()} == helps
    (listed,) = re.findall(r"^```\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert photoz("-h")[1].partition("\n\n")[2].endswith(f"\n\n{listed}")
    spellings = {tuple(option.opts) for leaf in COMMANDS.values() for option in leaf.command.params}
    names = [name for spelling in spellings for name in spelling]
    assert len(set(names)) == len(names), sorted(names)


@pytest.fixture
def checkout(tmp_path, monkeypatch, service_url):
    """Make a folder with the files that the examples name the current one."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "data").mkdir()
    for name in ("mine.h5", "data/sample.h5", "galaxies.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    return tmp_path


NOT_RUN = [example for path, some in EXAMPLES.items() if path.startswith(("python", "photoz sky")) for example in some]


@pytest.mark.parametrize("example", NOT_RUN)
def test_examples_are_right_usage(checkout, example):
    name = re.search(r"python -m \w+|photoz", example)[0]
    context, arguments = context_of(name, PROGRAMS[name]), shlex.split(example.partition(f"{name} ")[2])
    command = context.command
    while isinstance(command, click.Group):
        _, command, arguments = command.resolve_command(context, arguments)
    assert not command.make_context(command.name, arguments, parent=context).args


@pytest.mark.parametrize(
    ("names", "written"),
    [
        ("wait model predict evaluate compare", {"redshifts.npz", "report.html", "pit.png"}),
        ("score nz", {"scored", "nz.parquet", "nz.npz", "nz.png"}),
    ],
)
def test_examples_of_photoz_run(checkout, photoz, service_url, names, written):
    before = {path.name for path in checkout.iterdir()}
    for name in names.split():
        for example in EXAMPLES[f"photoz {name}"]:
            status, _, err = photoz(*shlex.split(re.sub(r"http://127\.0\.0\.1:300\d", service_url, example))[1:])
            assert status == 0, (example, err)
    assert {path.name for path in checkout.iterdir()} - before == written


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
    ("line", "status"),
    [
        ("photoz --version", 0),
        ("photoz model --url URL/nothing", 1),
        ("photoz model --api-key-file missing", 2),
        ("photoz compare URL URL/nothing examples/cutouts.npz", 2),
        ("python -m training sample -h", 0),
        ("python -m training evaluate --all models/photoz missing.h5", 2),
        ("python -m service store add missing", 1),
    ],
)
def test_exit_code(checkout, service_url, line, status):
    name = re.match(r"python -m \w+|photoz", line)[0]
    done = CliRunner().invoke(PROGRAMS[name], line.removeprefix(f"{name} ").replace("URL", service_url).split())
    assert done.exit_code == status, done.output
    if status == 1:
        assert done.stderr.count("\n") == 1


def test_exit_codes_of_the_process_and_of_the_guide():
    command = [sys.executable, "-m", "training", "convert", "missing.h5", "out.h5"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert re.findall(r"^\| (\d+) \|", GUIDE, flags=re.MULTILINE) == ["0", "1", "2", "130", "143"]


@pytest.mark.parametrize(
    ("sent", "status", "message"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_exit_code_after_a_signal(sent, status, message):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # A job in the background of a shell inherits that SIGINT is ignored.
        program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {PHOTOZ[-1]}"
        command = [*PHOTOZ[:-1], program, "model", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(sent)
                err = process.stderr.read()
    code = process.returncode
    assert (code if code >= 0 else 128 - code, err) == (status, message)  # a shell adds 128 to the signal


def test_a_key_that_the_service_made_is_accepted_and_shown_nowhere(start_service, bundle_path, tmp_path, photoz):
    created = CliRunner().invoke(service_main, ["keys", "create", "alice"])
    (tmp_path / "keys").write_text(created.stdout)
    (tmp_path / "key").write_text(key := created.stderr.splitlines()[-1])
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=tmp_path / "keys") as service:
        with PhotozClient(service.url) as client, pytest.raises(NotAuthorised, match="no API key was sent"):
            client.model()
        command = ("predict", ROOT / "examples" / "cutouts.npz", "--url", service.url, "--json", "--quantiles", "0.5")
        status, out, err = photoz(*command, "--api-key-file", tmp_path / "key")
        assert (status, len(json.loads(out)["z_q50"]), '"pdf"' in out) == (0, 8, False), err
        assert key not in out + err + service.log.read_text()
