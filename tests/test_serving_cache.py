"""The bounded cache behind models, prices and aliases."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastlib.serving.cache import LoadingCache


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_value_asked_for_by_many_at_once_is_loaded_once():
    loads = Counter()
    asked = threading.Barrier(9)
    go_on = threading.Event()

    def load(key):
        loads[key] += 1
        assert go_on.wait(10)
        return key.upper()

    cache = LoadingCache(load, capacity=4)

    def ask():
        asked.wait()
        return cache.get("a")

    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(ask) for _ in range(8)]
        asked.wait()
        go_on.set()
        assert [answer.result(10) for answer in answers] == ["A"] * 8
    assert loads == {"a": 1}


def test_a_slow_load_holds_up_nobody_who_asks_for_another_key():
    go_on = threading.Event()
    cache = LoadingCache(lambda key: go_on.wait(10) if key == "slow" else key, capacity=4)
    slow = threading.Thread(target=cache.get, args=("slow",))
    slow.start()
    assert cache.get("fast") == "fast"
    go_on.set()
    slow.join()


def test_a_load_that_fails_is_not_kept_and_everybody_who_waited_gets_its_error():
    outcomes = [OSError("gone"), "there"]

    def load(_):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    cache = LoadingCache(load, capacity=2)
    with pytest.raises(OSError, match="gone"):
        cache.get("a")
    assert len(cache) == 0
    assert cache.get("a") == "there"


def test_a_value_is_loaded_anew_once_it_is_no_longer_fresh():
    clock, loads = Clock(), Counter()

    def load(key):
        loads[key] += 1
        return loads[key]

    cache = LoadingCache(load, capacity=2, fresh_for=5.0, clock=clock)
    assert (cache.get("a"), cache.get("a")) == (1, 1)
    clock.now = 4.9
    assert cache.get("a") == 1
    clock.now = 5.0
    assert cache.get("a") == 2


def test_what_is_loaded_while_the_cache_is_cleared_is_handed_out_but_not_kept():
    loading, go_on = threading.Event(), threading.Event()

    def load(key):
        loading.set()
        assert go_on.wait(10)
        return key

    cache = LoadingCache(load, capacity=2)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(cache.get, "old")
        assert loading.wait(10)
        cache.clear()
        go_on.set()
        assert answer.result(10) == "old"
    assert len(cache) == 0


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 5))
def test_it_never_holds_more_than_its_capacity_and_drops_what_was_used_longest_ago(keys, capacity):
    cache = LoadingCache(lambda key: -key, capacity=capacity)
    recent: list[int] = []
    for key in keys:
        assert cache.get(key) == -key
        recent = [*(old for old in recent if old != key), key][-capacity:]
        assert list(cache._entries) == recent
