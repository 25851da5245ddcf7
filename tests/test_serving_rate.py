"""The rate limit of each caller."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forecastlib.serving.service import RateLimit


class Clock:
    """Replaces the clock of the rate limit, so that tests need not wait."""

    def __init__(self, patch):
        self.now = 1_700_000_000.0
        patch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def waits(limit, *callers):
    async def hit():
        return [await limit.hit(caller) for caller in callers]

    return asyncio.run(hit())


def test_a_burst_is_allowed_in_each_window(clock):
    limit = RateLimit(per_second=1.5, burst=3)
    assert waits(limit, *["ann"] * 5) == [0, 0, 0, 3, 3]  # 2 s, rounded up to be safe
    clock.now += 2.0
    assert waits(limit, *["ann"] * 4) == [0, 0, 0, 3]


def test_callers_have_separate_limits(clock):
    assert waits(RateLimit(per_second=1.0, burst=1), "ann", "bob", "ann") == [0, 0, 2]


def test_callers_of_earlier_windows_are_forgotten(clock):
    limit = RateLimit(per_second=1.0, burst=1)
    waits(limit, *(f"caller {n}" for n in range(1000)))
    clock.now += 2.0
    waits(limit, "ann", "bob")
    assert len(limit.storage.storage) == 2


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=50), st.floats(0.1, 20.0), st.integers(1, 10))
@example([0.6, 2.0], 0.25, 1)  # was once refused because of a rounding error
def test_a_caller_who_waits_as_long_as_the_response_says_is_allowed(pauses, rate, burst):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        limit = RateLimit(per_second=rate, burst=burst)
        began, allowed = clock.now, 0
        for pause in pauses:
            clock.now += pause
            (seconds,) = waits(limit, "ann")
            if seconds:
                clock.now += seconds
                assert waits(limit, "ann") == [0]
            allowed += 1
        # A window begins with its first request, so the burst of one window may follow that of another at once.
        assert allowed <= 2 * burst + rate * (clock.now - began)
