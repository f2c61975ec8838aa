"""How much JSON is read, and what it becomes in memory while it is."""

from photoz.errors import TooLarge

# Bytes that are read at most: they are read in one go, and nobody else is answered meanwhile (0.01 to 0.6 s a MiB).
MOST = 16 * 1024 * 1024

# Bytes of memory that each of its lists, objects and elements takes while it is decoded and checked, by measurement
# (docs/decisions.md): honest cutouts become eight times as large, lists of nothing 67 times.
COSTS = {b"[": 192, b"{": 512, b",": 64}


def cost(content: bytes) -> int:
    """Return about how many bytes of memory some JSON, or a part of it, becomes."""
    return sum(each * content.count(sign) for sign, each in COSTS.items())


def refuse_too_much(size: float) -> None:
    """Raise `TooLarge` if so many bytes of JSON are more than is read."""
    if size > MOST:
        raise TooLarge(f"expected at most {MOST:,} bytes of JSON, got more: send a file, or tensors as bytes")
