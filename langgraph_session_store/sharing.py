"""Computing beside a graph's threads and forks: without holding the ones up, and without a lock that the others could inherit."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

TURN: Final = 0.000_5  # seconds of computing, of Python's own 5 ms (`sys.getswitchinterval`)
PAUSE: Final = 0.000_05  # seconds, which another thread needs to wake up


def share(items: Iterable[T]) -> Iterator[T]:
    """Return an iterator over *items* that lets go of the interpreter's lock again and again, where another thread could want it.

    A thread that only computes gives it up after 5 ms, and a graph's thread waits so long after each of its system calls.
    """
    return _pausing(items) if threading.active_count() > 1 else iter(items)


def _pausing(items: Iterable[T]) -> Iterator[T]:
    rest_at = time.perf_counter() + TURN
    for item in items:
        yield item
        if time.perf_counter() > rest_at:
            time.sleep(PAUSE)
            rest_at = time.perf_counter() + TURN


class once(Generic[T]):  # noqa: N801 - a decorator
    """A property that is computed once: `functools.cached_property` without its lock.

    Before Python 3.12 that has one for all instances, and a child that is forked while a thread holds it would wait for ever.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> T | Self:
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._make(instance)  # found there before this from now on
        return value
