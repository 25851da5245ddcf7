"""Queries that arrive at the same time are answered by one computation."""

import asyncio
import threading

import pytest

from forecastlib.serving.predictions import Batches


def ask_all(batches, queries):
    """Send all queries at once; return their results, including exceptions."""

    async def gather():
        return await asyncio.gather(*(batches.ask(key, query) for key, query in queries), return_exceptions=True)

    return asyncio.run(gather())


def test_a_single_query_is_answered_at_once():
    assert ask_all(Batches(lambda key, numbers: [f"{key}{n}" for n in numbers], threads=1), [("a", 1)]) == ["a1"]


def test_queries_that_arrive_during_a_computation_are_answered_by_the_next_one():
    sizes, began, finish = [], threading.Event(), threading.Event()

    def compute(_, numbers):
        began.set()
        assert finish.wait(10)
        sizes.append(list(numbers))
        return [-n for n in numbers]

    batches = Batches(compute, threads=2)

    async def ask():
        first = asyncio.create_task(batches.ask("a", 0))
        await asyncio.to_thread(began.wait, 10)
        others = [asyncio.create_task(batches.ask("a", n)) for n in range(1, 6)]
        await asyncio.sleep(0)  # the tasks run up to their first wait
        finish.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [0, -1, -2, -3, -4, -5]
    assert sizes == [[0], [1, 2, 3, 4, 5]]


def test_no_computation_answers_more_queries_than_allowed():
    sizes = []

    def compute(_, numbers):
        sizes.append(len(numbers))
        return list(numbers)

    assert ask_all(Batches(compute, threads=2, max_size=3), [("a", n) for n in range(100)]) == list(range(100))
    assert max(sizes) == 3


def test_a_key_does_not_wait_for_another_key():
    finish = threading.Event()
    batches = Batches(lambda key, numbers: [finish.wait(10) if key == "slow" else key for _ in numbers], threads=2)

    async def ask():
        slow = asyncio.create_task(batches.ask("slow", 1))
        assert await batches.ask("fast", 1) == "fast"
        finish.set()
        return await slow

    assert asyncio.run(ask()) is True


def test_an_exception_is_raised_for_its_query_and_a_failed_computation_for_all_its_queries():
    def compute(key, numbers):
        if key == "bad":
            raise OSError("no such key")
        return [ValueError("odd") if n % 2 else n for n in numbers]

    batches = Batches(compute, threads=1)
    answers = ask_all(batches, [("good", 2), ("good", 3), ("bad", 2), ("bad", 3)])
    assert [str(answer) for answer in answers] == ["2", "odd", "no such key", "no such key"]
    assert ask_all(batches, [("good", 4)]) == [4]  # and the next computation works


def test_a_cancelled_query_does_not_leave_others_without_an_answer():
    began, finish = threading.Event(), threading.Event()

    def compute(_, numbers):
        began.set()
        assert finish.wait(10)
        return list(numbers)

    batches = Batches(compute, threads=1)

    async def ask():
        first = asyncio.create_task(batches.ask("a", 1))
        await asyncio.to_thread(began.wait, 10)
        second = asyncio.create_task(batches.ask("a", 2))
        await asyncio.sleep(0)
        first.cancel()
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(ask()) == 2
