"""Sphinx configuration of `make docs-site`: the Markdown files of the repository, from its root, as a site."""

import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "clients" / "python"), str(ROOT / "docs")]

from endpoints import endpoints, messages  # noqa: E402

from photoz import __version__  # noqa: E402

project, version, copyright = "photoz", __version__, "the authors of photoz, Apache-2.0"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]

# The source is the root, so that links between pages work on a forge and on the site.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "docs/api/**.rst", "deploy/**.md", "benchmarks/README.md"]
exclude_patterns = [".*", "build", "data", "dist", "models", "runs", "reports", "requirements", "tests"]

nitpicky = True
# References to other projects, whose inventories are not available offline, and to private base classes.
nitpick_ignore_regex = [("py:.*", r"(?!photoz).*|.*\._.*")]
highlight_language = "none"
default_role = "py:obj"
myst_heading_anchors = 4

shutil.rmtree(ROOT / "docs" / "api" / "generated", ignore_errors=True)  # pages of modules that are gone
autodoc_default_options = {"members": True}
autosummary_ignore_module_all = False  # photoz.plots imports its functions
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings have the types, with shapes and units
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

templates_path = [str(ROOT / "docs" / "templates")]  # autosummary looks in the source folder, HTML beside this file
html_theme = "pydata_sphinx_theme"
html_title = f"photoz {version}"
html_copy_source = False
html_static_path, html_css_files = ["static"], ["site.css"]
html_logo = html_favicon = "static/logo.svg"
html_sidebars = {"**": ["contents.html"]}
html_math_renderer = "mathml"  # pages would load MathJax from another host
html_theme_options: dict[str, Any] = {
    "logo": {"text": "photoz"},
    "navbar_center": [],
    "navbar_end": ["version", "theme-switcher"],
    "footer_end": [],
    "show_toc_level": 2,
}


def add_endpoints(app: Any, page: str, source: list[str]) -> None:
    """Append the endpoints of the service, and their messages, to their pages."""
    if append := {"docs/endpoints": endpoints, "docs/messages": messages}.get(page):
        from service import openapi

        source[0] += append(openapi.document())


def write_front_page(app: Any, error: Exception | None) -> None:
    """Redirect the root of the site to its first page."""
    if error is None and app.builder.format == "html":
        page = f'<!doctype html><title>photoz</title><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def write_math(writer: Any, node: nodes.Element) -> None:
    """Write a formula as MathML."""
    writer.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Register the functions above."""
    app.connect("source-read", add_endpoints)
    app.connect("build-finished", write_front_page)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
