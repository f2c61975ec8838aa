"""The memory that JSON takes while it is decoded, estimated before it is."""

from photoz.errors import TooLarge

# JSON is decoded in one go and blocks the interpreter meanwhile, 0.01 to 0.6 s a MiB.
MAX_JSON_BYTES = 16 * 1024 * 1024

# Bytes of memory for each list, object and element while it is decoded and validated, by measurement
# (docs/decisions.md): honest cutouts become eight times as large, empty lists 67 times.
BYTES_PER_TOKEN = {b"[": 192, b"{": 512, b",": 64}


def estimate_json_memory(content: bytes) -> int:
    """Return about how many bytes some JSON, or a part of it, takes while it is decoded."""
    return sum(size * content.count(token) for token, size in BYTES_PER_TOKEN.items())


def refuse_large_json(size: float) -> None:
    """Raise `TooLarge` if so many bytes are more than `MAX_JSON_BYTES`."""
    if size > MAX_JSON_BYTES:
        raise TooLarge(f"expected at most {MAX_JSON_BYTES:,} bytes of JSON, got more: send a file, or binary tensors")
