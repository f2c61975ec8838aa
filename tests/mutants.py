"""How many small mistakes the quick tests notice: mutants of a package, each against the tests that run its line.

python -m tests.mutants map                     runs the quick tests once, and notes which of them execute which line
python -m tests.mutants try photoz 200 --seed 7 prints each mutant, whether a test notices it, and the share of those

What a fixture executes, also in processes that it starts, such as a service, counts for all tests that use it. A line
outside functions runs when its module is imported: it meets all tests that execute anything of its file.
"""

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import click
import coverage
import pytest

from tests.running import ROOT

PACKAGES = ("photoz", "photoz_client", "photoz_survey", "service", "training")
# The folders with the tests of each, beside those of all. Others would notice a few more mutants, and take long.
FOLDERS = {"photoz": ("core",), "photoz_client": ("client",), "photoz_survey": ("survey",)}
MAP = ROOT / "build" / "mutants" / "map.json"
# Fails where lines are measured: coverage catches SIGTERM before the service does.
UNMEASURED = "--deselect=tests/service/test_startup.py::test_sigterm_during_the_start"
PYTEST = ["-n0", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-m", "not acceptance"]
TIMEOUT = 900.0  # seconds; a mutant that takes longer is noticed
# An operator, and what replaces it.
SWAPS = "<:<=, <=:<, >:>=, >=:>, ==:!=, !=:==, is:is not, is not:is, in:not in, not in:in, and:or, or:and, +:-, -:+"
GUARDS = {"frozen", "strict"}  # of dataclasses and zip: they only stop what no code does
OPERATORS = dict(pair.split(":") for pair in f"{SWAPS}, *:/, /:*, //:/, %:*, **:*, &:|, |:&".split(", "))


@dataclass(frozen=True)
class Mutant:
    """Bytes [start, end) of a file, and what replaces them."""

    file: str
    line: int
    lines: tuple[int, ...] | None  # of its statement; none outside functions
    start: int
    end: int
    old: str
    new: str


def mutants_of(file: str) -> Iterator[Mutant]:
    """Yield the mutants of a file: other operators, numbers and return values, negated conditions, calls left out."""
    source = (ROOT / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def first(node: ast.AST) -> int:
        return starts[node.lineno - 1] + node.col_offset

    def last(node: ast.AST) -> int:
        return starts[node.end_lineno - 1] + node.end_col_offset

    for node, lines in _code(ast.parse(source), None):

        def mutant(start: int, end: int, new: str, node=node, lines=lines) -> Mutant:
            return Mutant(file, node.lineno, lines, start, end, source[start:end].decode(), new)

        match node:
            case ast.BinOp(left, _, right) | ast.Compare(left, [_], [right]) | ast.BoolOp(_, [left, right, *_]):
                old = source[last(left) : first(right)].decode().strip(" ()\n")
                if old in OPERATORS:
                    at = source.index(old.encode(), last(left))
                    yield mutant(at, at + len(old), OPERATORS[old])
            case ast.UnaryOp(ast.Not() | ast.USub() as operator):
                yield mutant(first(node), first(node) + (3 if isinstance(operator, ast.Not) else 1), "")
            case ast.Constant(bool(value)):
                yield mutant(first(node), last(node), str(not value))
            case ast.Constant(int(value) | float(value)) if lines:  # others are choices, which tests do not repeat
                yield mutant(first(node), last(node), str(value + 1))
            case ast.Return(ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield mutant(first(value), last(value), "None")
            case ast.If(test) | ast.IfExp(test) if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield mutant(first(test), last(test), f"(not ({source[first(test) : last(test)].decode()}))")
            case ast.Expr(ast.Call()):
                yield mutant(first(node), last(node), "None")


def _code(node: ast.AST, lines: tuple[int, ...] | None) -> Iterator[tuple[ast.AST, tuple[int, ...] | None]]:
    """Yield the nodes of code, without annotations, each with the lines of its statement if that is in a function."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            guard = isinstance(child, ast.keyword) and child.arg in GUARDS
            if isinstance(child, ast.AST) and name not in {"annotation", "returns"} and not guard:
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and name == "body"
                if isinstance(child, ast.stmt) and (inside or lines):
                    body = [*getattr(child, "body", []), None][0]
                    lines_of = tuple(range(child.lineno, body.lineno if body else child.end_lineno + 1))
                else:
                    lines_of = lines
                yield child, lines_of
                yield from _code(child, lines_of)


class Contexts:
    """A plugin of pytest: lines are noted with the test or fixture that executes them, in any process."""

    def __init__(self) -> None:
        self.users = defaultdict(list)  # the tests of each context

    def pytest_collection_finish(self, session):
        for item in session.items:
            self.users[item.nodeid].append(item.nodeid)
            for definitions in item._fixtureinfo.name2fixturedefs.values():
                self.users[str(id(definitions[-1]))].append(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if request.scope == "function":
            return (yield)
        before = _switch_context(str(id(fixturedef)))
        try:
            return (yield)
        finally:
            _switch_context(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        _switch_context(item.nodeid)
        return (yield)


def _switch_context(new: str) -> str:
    """Return the context before; processes that are started from here on have the new one."""
    measured = coverage.Coverage.current()
    before = measured.get_option("run:context") or ""
    measured.set_option("run:context", new)
    os.environ["COVERAGE_PROCESS_CONFIG"] = measured.config.serialize()
    measured.switch_context(new)
    return before


@click.group()
def main() -> None:
    """Run the command line."""


@main.command("map")
@click.argument("tests", nargs=-1)
def map_lines(tests: tuple[str, ...]) -> None:
    """Run the quick tests in one process, all or TESTS, and write which lines each executes."""
    shutil.rmtree(MAP.parent, ignore_errors=True)
    MAP.parent.mkdir(parents=True)
    data, settings = MAP.with_suffix(".coverage"), MAP.with_suffix(".ini")
    settings.write_text(f"[run]\npatch = subprocess\nparallel = true\nsigterm = true\ndata_file = {data}\n")
    measured = coverage.Coverage(config_file=str(settings), source=PACKAGES)
    measured.start()
    contexts = Contexts()
    if pytest.main([*PYTEST, UNMEASURED, *tests], plugins=[contexts]) != pytest.ExitCode.OK:
        raise click.ClickException("the tests fail as they are")
    measured.stop()
    measured.save()
    measured.combine()
    executed = {}
    for file in measured.get_data().measured_files():
        lines = measured.get_data().contexts_by_lineno(file).items()
        tests_of = {line: {test for name in names for test in contexts.users.get(name, ())} for line, names in lines}
        executed[os.path.relpath(file, ROOT)] = {line: sorted(tests) for line, tests in tests_of.items()}
    MAP.write_text(json.dumps(executed))


@main.command("try")
@click.argument("package", type=click.Choice(PACKAGES))
@click.argument("n", type=int)
@click.option("--seed", type=int, required=True)
@click.option("--jobs", default=2)
def try_mutants(package: str, n: int, seed: int, jobs: int) -> None:
    """Draw N mutants of PACKAGE, of the commit that is checked out, and see whether a test notices them."""
    files = subprocess.check_output(["git", "ls-files", f"*{package}/*.py", ":!tests"], cwd=ROOT, text=True).split()
    mutants = [mutant for file in files if f"/{package}/" in f"/{file}" for mutant in mutants_of(file)]
    executed, clones = json.loads(MAP.read_text()), SimpleQueue()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, Path(folder, str(number))], check=True)
            clones.put(Path(folder, str(number)))

        def try_one(mutant: Mutant) -> bool:
            clone = clones.get()
            noticed = first_failure(mutant, executed.get(mutant.file, {}), package, clone)
            clones.put(clone)
            change = f"{mutant.file}:{mutant.line}: {mutant.old!r} -> {mutant.new!r}"
            print("noticed " if noticed else "SURVIVED", change, noticed, flush=True)
            return bool(noticed)

        noticed = sum(pool.map(try_one, random.Random(seed).sample(mutants, n)))
    print(f"{package}: {noticed} of {n} noticed, {noticed / n:.1%}, seed {seed}")


def first_failure(mutant: Mutant, executed: dict[str, list[str]], package: str, clone: Path) -> str:
    """Return which test fails with the mutant, if any: of the package's own or, if none runs its line, of all.

    First those that run its line, then those that run its file: processes that are killed do not tell their lines.
    """
    lines = executed if mutant.lines is None else map(str, mutant.lines)
    tests = {test for line in lines for test in executed.get(line, ())}
    folders = {*FOLDERS.get(package, (package,)), "attack", "e2e"}
    of_line, of_file = (
        {test for test in some if test.split("/")[1] in folders} for some in (tests, set().union(*executed.values()))
    )
    path = clone / mutant.file
    source = path.read_bytes()
    path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
    try:
        return next(filter(None, (_failure(some, clone) for some in (of_line or tests, of_file - of_line))), "")
    finally:
        path.write_bytes(source)


def _failure(tests: set[str], clone: Path) -> str:
    """Return which of the tests fails first, if any."""
    if not tests:
        return ""
    environment = {**os.environ, "PYTHONPATH": f"{clone}:{clone}/clients/python", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", *PYTEST, *sorted(tests)]
    try:
        run = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return "no end"
    failed = re.search("^(FAILED|ERROR) (.*)", run.stdout, re.MULTILINE)
    return "" if run.returncode == 0 else failed[2] if failed else f"exit status {run.returncode}"


if __name__ == "__main__":
    main()
