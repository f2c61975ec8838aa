import numpy as np
import pytest
from hypothesis import settings

# The same examples on every run, and no folder of examples left behind.
settings.register_profile("core", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("core")


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)
