"""What the tests attack with: hypothesis strategies, and how much memory a decoder takes."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from targets import SPEC

from photoz.errors import MalformedInput
from photoz.protocol.tensors import BYTES, NUMBERS

# The same examples on every run, and no folder of examples left behind.
ATTACK = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

NUMBER = st.one_of(
    st.integers(-2, 9),
    st.sampled_from([2**31, 2**40, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e39, -1e308, float("nan"), float("inf")]),
)
# json.dumps writes a surrogate as an escape, so that it gets as far as the parser.
TEXT = st.one_of(st.sampled_from(["", "images", "NGC 1", "é", "\0", "\ud800", "x" * 300]), st.text(max_size=5))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda values: st.one_of(st.lists(values, max_size=4), st.dictionaries(TEXT, values, max_size=3)),
    max_leaves=12,
)


def or_odd(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is expected, now and then anything."""
    return st.integers(0, 7).flatmap(lambda roll: strategy if roll else JSON)


SHAPES = st.one_of(
    st.sampled_from([[1, *SPEC.shape], list(SPEC.shape), [2], [1], [0], [], [2**40 - 1] * 8, [2**32, 2**32], [-1]]),
    st.lists(NUMBER, max_size=9),
)


def filled(content: dict[str, st.SearchStrategy[Any]], *needed: str) -> st.SearchStrategy[dict[str, Any]]:
    """Make objects with these fields, those that are needed always there."""
    return st.fixed_dictionaries(
        {name: or_odd(content[name]) for name in needed},
        optional={name: or_odd(value) for name, value in content.items() if name not in needed},
    )


TENSOR = filled(
    {
        "name": st.sampled_from(["images", "ebv", "object_id"]),
        "datatype": st.sampled_from([*NUMBERS, BYTES]),
        "shape": SHAPES,
        "data": st.lists(st.one_of(NUMBER, TEXT, st.lists(NUMBER, max_size=3)), max_size=4),
        "parameters": filled({"binary_data_size": st.one_of(NUMBER, st.sampled_from([4, 8, 512, 2**62]))}),
    },
    "name",
    "datatype",
    "shape",
)
INFERENCE = filled(
    {
        "inputs": st.lists(TENSOR, max_size=3),
        "outputs": st.lists(filled({"name": TEXT, "parameters": filled({"binary_data": st.booleans()})}), max_size=3),
        "parameters": filled({"binary_data_output": st.booleans()}),
        "id": TEXT,
    },
    "inputs",
)

# Places as parts of the whole, so that they fit bodies of any length.
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


def damaged(body: bytes, changes: list[tuple[float, int]], kept: float, more: bytes) -> bytes:
    """Change bytes of a body, cut it short, and put others behind it."""
    content = bytearray(body)
    for place, value in changes:
        content[int(place * len(content))] = value
    return bytes(content[: round(kept * len(content))]) + more


DAMAGE = {
    "changes": CHANGES,
    "kept": st.one_of(st.just(1.0), st.floats(0, 1)),
    "more": st.one_of(st.just(b""), st.binary(max_size=9)),
}


def peak_memory(function: Callable[[], object]) -> int:
    """Return the bytes that a call takes at most, those of numpy's arrays among them."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuses(read, body, reason, error=MalformedInput):
    with pytest.raises(error, match=reason):
        read(body)
