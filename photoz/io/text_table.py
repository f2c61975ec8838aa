"""Estimates as text to read on a terminal."""

from photoz.estimates import Estimates
from photoz.flags import Flag


def text_table(estimates: Estimates) -> str:
    """Format the estimates: one line per galaxy, flags by name."""
    width = max(len("object_id"), *(len(name) for name in estimates.object_id.tolist()))
    head = f"{'object_id':<{width}}  z_mean  z_lo68  z_hi68   odds  flags"
    columns = (estimates.z_mean, estimates.z_lo68, estimates.z_hi68, estimates.odds)
    rows = zip(estimates.object_id.tolist(), *columns, estimates.flags.tolist(), strict=True)
    lines = (
        f"{name:<{width}}  {z:6.4f}  {low:6.4f}  {high:6.4f}  {odds:5.3f}  {flag_names(flags)}"
        for name, z, low, high, odds, flags in rows
    )
    return "\n".join([head, *lines])


def flag_names(flags: int) -> str:
    """Return the names of the flags that are set, joined by |; a dash for none."""
    return "|".join(str(flag.name) for flag in Flag(flags)) or "-"
