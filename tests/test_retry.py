"""The retry policy: waits as documented, never shorter, and an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from investbus.retry import RetryPolicy


def test_default_waits_are_the_documented_ones() -> None:
    policy = RetryPolicy()
    assert [policy.wait(failures, 0.0) for failures in (1, 2, 3, 4, 5, 6)] == [1.0, 3.0, 9.0, 27.0, 60.0, 60.0]
    assert [policy.exhausted(attempt) for attempt in (1, 4, 5, 6)] == [False, False, True, True]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(1, 1e6))
def test_jitter_only_adds_and_no_count_overflows(failures: int, chance: float, factor: float) -> None:
    policy = RetryPolicy(factor=factor)
    plain = policy.wait(failures, 0.0)
    assert plain <= policy.wait(failures, chance) <= plain * (1 + policy.jitter)
    assert 0 < plain <= policy.max


def test_the_wait_grows_by_the_factor_up_to_the_longest() -> None:
    policy = RetryPolicy(first=0.5, factor=2.0, max=3.0, jitter=0.0)
    assert [policy.wait(failures, 0.9) for failures in range(1, 6)] == pytest.approx([0.5, 1.0, 2.0, 3.0, 3.0])
