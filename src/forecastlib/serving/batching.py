"""Answering in one go what many have asked: while one computation runs, the questions for the next one gather."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")


class Batching(Generic[K, Q, A]):
    """Questions by key, answered together where they came together.

    Nobody waits for others to ask: a question that comes alone is answered alone, at once. Under load the batches
    grow, and with them what is shared between answers, so that the load is carried.

    Parameters
    ----------
    compute
        Gives the answers to some questions of one key, in their order. For an answer it may give an exception.
    threads
        Keys that are computed at once.
    largest
        Most questions of a batch.

    Examples
    --------
    >>> squares = Batching(lambda key, numbers: [n * n for n in numbers], threads=1)
    >>> squares.ask("any", 3).result()
    9
    >>> squares.close()
    """

    def __init__(
        self, compute: Callable[[K, Sequence[Q]], Sequence[A | Exception]], *, threads: int, largest: int = 64
    ) -> None:
        self._compute = compute
        self._largest = largest
        self._count = threads
        self._threads = self._new_threads()
        self._open: set[Future[A]] = set()
        self._lock = threading.Lock()
        self._waiting: dict[K, list[tuple[Q, Future[A]]]] = {}

    def ask(self, key: K, question: Q) -> Future[A]:
        """Put a question; the future gets the answer, or the exception that came instead."""
        future: Future[A] = Future()
        with self._lock:
            first = key not in self._waiting  # else a thread is at work on this key, and will see it
            self._waiting.setdefault(key, []).append((question, future))
            self._open.add(future)
            if first:
                self._threads.submit(self._work, key)
        future.add_done_callback(self._open.discard)
        return future

    def close(self) -> None:
        """Answer what has been asked, and end the threads; who asks later gets new ones."""
        with self._lock:
            asked = list(self._open)
        wait(asked)
        with self._lock:
            ended, self._threads = self._threads, self._new_threads()
        ended.shutdown()

    def _new_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count, thread_name_prefix="batch")

    def _work(self, key: K) -> None:
        """Answer a batch, then let other keys have their turn."""
        with self._lock:
            waiting = self._waiting[key]
            batch, waiting[:] = waiting[: self._largest], waiting[self._largest :]
        try:
            answers = self._compute(key, [question for question, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        with self._lock:
            if waiting:
                self._threads.submit(self._work, key)
            else:
                del self._waiting[key]
