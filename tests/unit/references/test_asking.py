"""Questions that many share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import anyio
import pytest

from tests.support.resolving import FakeResolver
from tests.unit.daemon.bench import HandClock
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherryd.references.asking import FAILURES, PER_HOST, UNTRIED, Asker
from wherryd.references.base import Target

URI = "http://h/x"


class Line:
    """The line of requests, as the queue would tell of it."""

    def __init__(self) -> None:
        self.last = 1

    async def last_place(self) -> int:
        return self.last


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def asker(clock: HandClock, line: Line) -> Asker:
    return Asker(clock, line.last_place)


@pytest.fixture
def resolver() -> FakeResolver:
    fake = FakeResolver()
    fake.objects[URI] = "a"
    return fake


def _start(work: Coroutine[object, object, object]) -> asyncio.Task[object]:
    return asyncio.get_running_loop().create_task(work)


async def _settle() -> None:
    await anyio.wait_all_tasks_blocked()


async def test_object_is_asked_for_twice(asker: Asker, resolver: FakeResolver, line: Line) -> None:
    """Requests that were accepted before the question was sent share its answer, then and later."""
    line.last = 3
    resolver.gates[URI] = anyio.Event()
    tasks = [_start(asker.look(resolver, Target(URI), place)) for place in (1, 2, 3)]
    await _settle()
    resolver.gates[URI].set()
    assert len({str(await task) for task in tasks}) == 1
    await asker.look(resolver, Target(URI), 3)
    assert len(resolver.asked) == 1


async def test_later_request_gets_an_older_answer(
    asker: Asker, resolver: FakeResolver, line: Line
) -> None:
    """A request that was accepted after the question was sent has one of its own, sent or answered."""
    resolver.gates[URI] = anyio.Event()
    first = _start(asker.look(resolver, Target(URI), 1))
    await _settle()
    line.last = 2
    second = _start(asker.look(resolver, Target(URI), 2))
    await _settle()
    resolver.objects[URI] = "bb"
    resolver.gates[URI].set()
    await first
    await second
    assert len(resolver.asked) == 2
    line.last = 3
    await asker.look(resolver, Target(URI), 3)
    assert len(resolver.asked) == 3


async def test_cancelled_asker_cancels_the_others(
    asker: Asker, resolver: FakeResolver, line: Line
) -> None:
    """When whoever asked is cancelled, another asks again."""
    line.last = 2
    resolver.gates[URI] = anyio.Event()
    first = _start(asker.look(resolver, Target(URI), 1))
    await _settle()
    second = _start(asker.look(resolver, Target(URI), 2))
    await _settle()
    first.cancel()
    await _settle()
    resolver.gates[URI].set()
    await second
    assert len(resolver.asked) == 2


async def test_failure_is_kept(asker: Asker, resolver: FakeResolver) -> None:
    """A refusal is told to those who wait for it, and the next one asks again."""
    resolver.errors[URI] = [ReferenceFailed("gone")]
    with pytest.raises(ReferenceFailed):
        await asker.look(resolver, Target(URI), 1)
    assert (await asker.look(resolver, Target(URI), 1)).answer is not None


async def test_dead_host_is_hammered(
    asker: Asker, resolver: FakeResolver, clock: HandClock
) -> None:
    """After some failures a host is left alone, then asked once, and by all when it has answered."""
    resolver.errors[URI] = [ReferenceUnavailable("down", host="h") for _ in range(FAILURES)]
    for _ in range(FAILURES):
        with pytest.raises(ReferenceUnavailable):
            await asker.look(resolver, Target(URI), 1)
    with pytest.raises(ReferenceUnavailable, match="down") as left_alone:
        await asker.look(resolver, Target(f"{URI}/other"), 1)
    assert not left_alone.value.was_asked
    assert len(resolver.asked) == FAILURES
    assert left_alone.value.retry_after_s == 0.5
    clock.advance(0.6)
    resolver.gates[URI] = anyio.Event()
    probe = _start(asker.look(resolver, Target(URI), 1))
    await _settle()
    with pytest.raises(ReferenceUnavailable):
        await asker.look(resolver, Target("http://h/z"), 1)
    resolver.gates[URI].set()
    await probe
    resolver.objects["http://h/z"] = "z"
    await asker.look(resolver, Target("http://h/z"), 1)


async def test_silent_host_holds_all_connections(asker: Asker, resolver: FakeResolver) -> None:
    """A host that has never answered gets few questions; one that has gets as many as are allowed."""
    uris = [f"http://h/{n}" for n in range(2 * PER_HOST)]
    for uri in uris:
        resolver.objects[uri] = "e"
        resolver.gates[uri] = anyio.Event()
    tasks = [_start(asker.look(resolver, Target(uri), 1)) for uri in uris]
    await _settle()
    assert len(resolver.asked) == UNTRIED
    resolver.gates[uris[0]].set()
    await _settle()
    assert len(resolver.asked) == PER_HOST + 1  # and one that has its answer
    for uri in uris:
        resolver.gates[uri].set()
    await asyncio.gather(*tasks)
    assert len(resolver.asked) == len(uris)


async def test_host_that_falls_silent_holds_all(asker: Asker, resolver: FakeResolver) -> None:
    """A host whose last question failed gets few questions again."""
    await asker.look(resolver, Target(URI), 1)
    resolver.errors["http://h/ill"] = [ReferenceUnavailable("ill", host="h")]
    with pytest.raises(ReferenceUnavailable):
        await asker.look(resolver, Target("http://h/ill"), 1)
    resolver.asked.clear()
    for number in range(UNTRIED + 5):
        resolver.gates[f"http://h/{number}"] = anyio.Event()
    tasks = [
        _start(asker.look(resolver, Target(f"http://h/{number}"), 1))
        for number in range(UNTRIED + 5)
    ]
    await _settle()
    assert len(resolver.asked) == UNTRIED
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_hosts_trouble_stops_another(asker: Asker, resolver: FakeResolver) -> None:
    """Only the host that has trouble is left alone."""
    resolver.errors[URI] = [ReferenceUnavailable("busy", host="h", retry_after_s=300)]
    with pytest.raises(ReferenceUnavailable):
        await asker.look(resolver, Target(URI), 1)
    with pytest.raises(ReferenceUnavailable) as told:
        await asker.look(resolver, Target(URI), 1)
    assert told.value.retry_after_s == 300
    resolver.objects["http://other/x"] = "o"
    await asker.look(resolver, Target("http://other/x"), 1)
    asker.nudge()
    await asker.look(resolver, Target(URI), 1)


async def test_answers_take_all_memory(
    asker: Asker, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the answers only so many objects are kept, the newest."""
    monkeypatch.setattr("wherryd.references.asking.KEPT_OBJECTS", 4)
    uris = [f"http://h/{n}" for n in range(5)]
    for uri in uris:
        resolver.objects[uri] = "e"
        await asker.look(resolver, Target(uri), 1)
    resolver.asked.clear()
    for uri in reversed(uris):
        await asker.look(resolver, Target(uri), 1)
    assert [uri for uri, _ in resolver.asked] == [uris[1], uris[0]]
