"""Assertions on how malformed input is refused."""

import math
import tracemalloc
from collections.abc import Callable

import pytest

from photoz.errors import MalformedInput, PhotozError


def peak_memory(function: Callable[[], object]) -> int:
    """Return the bytes that a call allocates at most, numpy's arrays included."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_refused(
    decode: Callable[..., object],
    body: object,
    reason: str | None,
    error: type[PhotozError] | tuple[type[PhotozError], ...] = MalformedInput,
    *,
    max_memory: float = math.inf,
    max_length: float = math.inf,
) -> None:
    """Check the error of a decoder: its type, its text, the length of that, and the memory until it is raised."""
    messages = []

    def refused() -> None:
        with pytest.raises(error, match=reason) as refusal:
            decode(body)
        messages.append(str(refusal.value))

    if max_memory < math.inf:  # measuring is slow
        assert peak_memory(refused) < max_memory
    else:
        refused()
    assert len(messages[0]) < max_length
