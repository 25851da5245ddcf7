"""Answering in one go what many have asked."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from forecastlib.serving.batching import Batching


@pytest.fixture
def open_batching():
    made = []

    def make(compute, **options):
        made.append(Batching(compute, **{"threads": 2} | options))
        return made[-1]

    yield make
    for batching in made:
        batching.close()


def test_a_question_that_comes_alone_is_answered_at_once(open_batching):
    assert open_batching(lambda key, numbers: [f"{key}{n}" for n in numbers]).ask("a", 1).result(10) == "a1"


def test_what_is_asked_while_one_is_computed_is_answered_in_one_go(open_batching):
    batches, begun, go_on = [], threading.Event(), threading.Event()

    def compute(_, numbers):
        begun.set()
        assert go_on.wait(10)
        batches.append(list(numbers))
        return [-n for n in numbers]

    batching = open_batching(compute)
    first = batching.ask("a", 0)
    assert begun.wait(10)
    others = [batching.ask("a", n) for n in range(1, 6)]
    go_on.set()
    assert [future.result(10) for future in [first, *others]] == [0, -1, -2, -3, -4, -5]
    assert batches == [[0], [1, 2, 3, 4, 5]]


def test_no_batch_is_larger_than_it_may_be_and_all_are_answered_in_order(open_batching):
    sizes = []

    def compute(_, numbers):
        sizes.append(len(numbers))
        return list(numbers)

    batching = open_batching(compute, largest=3)
    with ThreadPoolExecutor(8) as threads:
        futures = list(threads.map(lambda n: batching.ask("a", n), range(100)))
    assert [future.result(10) for future in futures] == list(range(100))
    assert max(sizes) <= 3


def test_one_key_does_not_wait_for_another(open_batching):
    go_on = threading.Event()
    batching = open_batching(lambda key, numbers: [go_on.wait(10) if key == "slow" else key for _ in numbers])
    slow = batching.ask("slow", 1)
    assert batching.ask("fast", 1).result(10) == "fast"
    go_on.set()
    assert slow.result(10) is True


def test_an_exception_goes_to_whoever_asked_for_it_and_that_of_a_whole_batch_to_all(open_batching):
    def compute(key, numbers):
        if key == "bad":
            raise OSError("no such key")
        return [ValueError("odd") if n % 2 else n for n in numbers]

    batching = open_batching(compute)
    assert batching.ask("good", 2).result(10) == 2
    with pytest.raises(ValueError, match="odd"):
        batching.ask("good", 3).result(10)
    with pytest.raises(OSError, match="no such key"):
        batching.ask("bad", 2).result(10)
    assert batching.ask("good", 4).result(10) == 4  # the threads go on
    assert batching._waiting == {}


def test_closing_answers_what_has_been_asked():
    batching = Batching(lambda _, numbers: list(numbers), threads=1)
    futures = [batching.ask(n % 3, n) for n in range(30)]
    batching.close()
    assert [future.result(0) for future in futures] == list(range(30))
    assert batching.ask(0, 31).result(10) == 31  # and it can be used again
    batching.close()
