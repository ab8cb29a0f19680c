"""One question for all who want to know the same."""

from __future__ import annotations

import anyio
import pytest

from wherry.errors import StoreUnavailable
from wherryd.stores.base import Object, ObjectStat
from wherryd.stores.together import Shared


class _Server:
    """Answers when it is told to: how many questions it had got when it got the one that is answered."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self._news = anyio.Event()
        self._may_answer: list[anyio.Event] = []

    async def ask(self) -> Object:
        self.asked += 1
        number, may_answer = self.asked, anyio.Event()
        self._may_answer.append(may_answer)
        self._news.set()
        await may_answer.wait()
        if self.fails:
            raise StoreUnavailable("503")
        return Object(ObjectStat("key", number, "etag", 0.0), b"")

    async def wait_asked(self, count: int) -> None:
        with anyio.fail_after(5):
            while self.asked < count:
                self._news = anyio.Event()
                await self._news.wait()
        await anyio.wait_all_tasks_blocked()

    def answer(self) -> None:
        """Answer all that was asked."""
        for each in self._may_answer:
            each.set()


async def _begin(
    tasks: anyio.abc.TaskGroup, shared: Shared, server: _Server, told: list[int | str]
) -> anyio.CancelScope:
    """Let one more ask; its answer is added to what is told."""
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            try:
                there = await shared.ask(server.ask)
            except StoreUnavailable:
                told.append("failed")
            else:
                told.append(there.stat.size if there else 0)

    tasks.start_soon(ask)
    await anyio.wait_all_tasks_blocked()
    return scope


async def test_everybody_asks() -> None:
    """Those who come while a question is under way share the next; each later one is newer."""
    shared, server, told = Shared(), _Server(), list[int | str]()
    async with anyio.create_task_group() as tasks:
        await _begin(tasks, shared, server, told)
        for _ in range(5):
            await _begin(tasks, shared, server, told)
        assert server.asked == 1
        server.answer()
        await server.wait_asked(2)
        assert told == [1]  # the question was sent before the others came
        await _begin(tasks, shared, server, told)
        server.answer()
        await server.wait_asked(3)
        assert told == [1, *[2] * 5]
        server.answer()
    assert told[6:] == [3]


async def test_one_after_the_other_waits_for_a_time_out() -> None:
    """Where a question has no answer, those who waited for it ask side by side, each for itself."""
    shared, server, told = Shared(), _Server(), list[int | str]()
    server.fails = True
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            await _begin(tasks, shared, server, told)
        server.answer()
        await server.wait_asked(2)
        server.answer()
        await server.wait_asked(5)
        assert told == ["failed"] * 2
        server.fails = False
        server.answer()
    assert told[2:] == [3, 4, 5]


async def test_who_is_cancelled_takes_the_answer_away() -> None:
    """Where whoever sent the question is gone, the next of those who wait sends it."""
    shared, server, told = Shared(), _Server(), list[int | str]()
    async with anyio.create_task_group() as tasks:
        first = await _begin(tasks, shared, server, told)
        await _begin(tasks, shared, server, told)
        first.cancel()
        await server.wait_asked(2)
        server.answer()
    assert told == [2]


@pytest.mark.parametrize("count", [1, 3])
async def test_an_old_answer_counts(count: int) -> None:
    """Who comes when nothing is under way has a question sent."""
    shared, server, told = Shared(), _Server(), list[int | str]()
    for number in range(count):
        async with anyio.create_task_group() as tasks:
            await _begin(tasks, shared, server, told)
            server.answer()
        assert told == [*range(1, number + 2)]
