"""Compressed bodies: bombs, truncated streams, trailing data."""

from functools import partial

import pytest

from photoz.errors import TooLarge
from service.compression import COMPRESSORS, decompress
from tests.attack.corpus import IMAGES, MB
from tests.attack.refusals import assert_refused

pytestmark = pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS.items(), ids=COMPRESSORS)


def test_a_bomb_is_unpacked_up_to_the_limit(encoding, compress):
    body, limit = compress(bytes(100 * MB)), 10 * MB
    assert len(body) < MB
    unpack = partial(decompress, encoding=encoding, limit=limit)
    assert_refused(unpack, body, "at most 10,485,760", TooLarge, max_memory=2.5 * limit)


def test_truncated_streams_and_trailing_data_are_refused(encoding, compress):
    body, unpack = compress(IMAGES.tobytes()), partial(decompress, encoding=encoding, limit=MB)
    assert unpack(body) == IMAGES.tobytes()
    for length in range(0, len(body), 7):
        assert_refused(unpack, body[:length], "ends before|got other bytes")
    for extra in (body, b"\0", bytes(1000)):
        assert_refused(unpack, body + extra, f"expected one {encoding} stream")
