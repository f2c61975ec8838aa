"""Text for terminals: a table of estimates, and a report on the cutouts that were read."""

from pathlib import Path

from photoz.errors import counted, printable
from photoz.estimates import Estimates
from photoz.flags import flag_names
from photoz.io.cutouts import Reading


def text_table(estimates: Estimates) -> list[str]:
    """Format the estimates: one line per galaxy, flags by name."""
    names = [printable(name) for name in estimates.object_id.astype(str).tolist()]
    width = max(len("object_id"), *map(len, names))
    head = f"{'object_id':<{width}}  z_mean  z_lo68  z_hi68   odds  flags"
    columns = (estimates.z_mean, estimates.z_lo68, estimates.z_hi68, estimates.odds)
    rows = zip(names, *columns, estimates.flags.tolist(), strict=True)
    lines = (
        f"{name:<{width}}  {z:6.4f}  {low:6.4f}  {high:6.4f}  {odds:5.3f}  {flag_names(flags)}"
        for name, z, low, high, odds, flags in rows
    )
    return [head, *lines]


def reading_report(source: Path, n: int, reading: Reading, left_out: str = "", n_left_out: int = 0) -> str:
    """Report how many of the n cutouts of a source are used, why others are left out, and what was done."""
    used = f"{n - n_left_out:,} used, {n_left_out:,} left out: {left_out}" if n_left_out else "all used"
    return "\n  ".join(map(printable, (f"{source}: {counted(n, 'cutout')} read, {used}", *reading.lines())))
