"""Print to a terminal, which would obey control characters in the names of files, models and galaxies."""

import re

import click

from photoz.errors import printable

# What JSON leaves as it is: DEL, C1, line ends, and marks that reverse the direction of text; in UTF-8.
CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def show(*lines: str, err: bool = False) -> None:
    """Print lines of text; control characters and line ends, which the names in them may hold, are escaped."""
    click.echo("".join(f"{printable(line)}\n" for line in lines), nl=False, err=err)


def show_json(content: str | bytes) -> None:
    """Print JSON for programs, with the control characters of its texts escaped as JSON does."""
    encoded = content.encode() if isinstance(content, str) else content
    click.echo(CONTROLS.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), encoded))
