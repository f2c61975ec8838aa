"""Assertions on how malformed input is refused."""

import math
import tracemalloc

import pytest

from photoz.errors import MalformedInput


def peak_memory(function):
    """Return the bytes that a call allocates at most, numpy's arrays included."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_refused(decode, body, reason, error=MalformedInput, *, max_memory=math.inf, max_length=math.inf):
    """Check the error of a decoder: its type, its text, the length of that, and the memory until it is raised."""

    def refused():
        with pytest.raises(error, match=reason) as refusal:
            decode(body)
        assert len(str(refusal.value)) < max_length

    refused()  # the first call may import modules
    assert max_memory == math.inf or peak_memory(refused) < max_memory
