"""Run calls side by side and get one plain error. Ground floor: no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def all_of(*calls: Callable[[], Awaitable[T]]) -> list[T]:
    """Await all calls at once and return their results in order.

    Raises the first error as it is (not as a group), after the other calls were cancelled.
    """
    results: dict[int, T] = {}

    async def run(index: int) -> None:
        results[index] = await calls[index]()

    try:
        async with anyio.create_task_group() as group:
            for index in range(len(calls)):
                group.start_soon(run, index)
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return [results[index] for index in range(len(calls))]


def first_of(error: BaseException) -> BaseException:
    """What a group of errors began with; an error that is no group is that itself."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
