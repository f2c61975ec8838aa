"""The code that the page offers to copy, for files with names that a shell or Python would act on."""

import ast
import re
import subprocess

import pytest

from tests.e2e.test_page import SAMPLE, wait_for_redshifts

pytestmark = pytest.mark.acceptance

NAMES = ["a b.npz", 'a\'b "c" $(x) \n.fits', "-rf.npz", "`x`;&|\\.npz", "\x1b[201~\x7f\x9b\u202e\U000e0001.npz"]


@pytest.mark.parametrize("name", NAMES, ids=map(ascii, NAMES))
def test_code_to_copy_quotes_the_name_of_the_file(page, service_url, name):
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": SAMPLE})
    wait_for_redshifts(page)
    shown = [page.locator(f"#code-{tab}").text_content() for tab in ("predict", "evaluate")]
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", "".join(shown)) is None
    path = name if name[0] != "-" else f"./{name}"
    commands, _, program = shown[0].partition("from photoz.io")
    # A shell with functions in place of the two programs prints the words that it reads.
    script = 'curl() { printf \'%s\\0\' "$@"; }; photoz() { curl "$@"; }\n' + commands + shown[1]
    words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")
    assert (words.count(f"@{path}"), words.count(path), words.count(service_url)) == (3, 2, 2)
    assert f"{service_url}/evaluate?plot=scatter" in words
    strings = [node.value for node in ast.walk(ast.parse("from photoz.io" + program)) if isinstance(node, ast.Constant)]
    assert {path, service_url} <= set(strings)
