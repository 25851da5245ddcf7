"""A bounded cache for concurrent use: whatever is asked for by many at once is loaded once."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LoadingCache(Generic[K, V]):
    """Values by key, loaded when first asked for; the least recently used one gives way.

    While a value is loaded, others who ask for it wait for it, and those who ask for another are not held up. A load
    that fails is not kept: all who waited get its error, and the next one tries again.

    Parameters
    ----------
    load
        Gives the value of a key; called in the thread of whoever asks first.
    capacity
        Most values that are kept, those being loaded included.
    fresh_for
        Seconds that a value may be used for.
    clock
        Gives the time in seconds.

    Examples
    --------
    >>> squares = LoadingCache(lambda n: n * n, capacity=2)
    >>> [squares.get(n) for n in (1, 2, 3)], len(squares)
    ([1, 4, 9], 2)
    """

    def __init__(
        self,
        load: Callable[[K], V],
        *,
        capacity: int,
        fresh_for: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._capacity = capacity
        self._fresh_for = fresh_for
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[Future[V], float]] = OrderedDict()

    def get(self, key: K) -> V:
        """Return the value of a key, loading it if it is not there or no longer fresh."""
        with self._lock:
            found: Future[V]
            kept = self._entries.get(key)
            if kept is not None and self._clock() - kept[1] < self._fresh_for:
                self._entries.move_to_end(key)
                found, loading = kept[0], False
            else:
                found, loading = Future(), True
                self._entries[key] = (found, self._clock())
                self._entries.move_to_end(key)
                while len(self._entries) > self._capacity:
                    self._entries.popitem(last=False)
        if loading:
            try:
                found.set_result(self._load(key))
            except BaseException as error:
                with self._lock:
                    if self._entries.get(key, (None,))[0] is found:
                        del self._entries[key]
                found.set_exception(error)
        return found.result()

    def clear(self) -> None:
        """Forget all values; one that is being loaded is handed to those who wait, and not kept."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        """Count the values that are kept."""
        return len(self._entries)
