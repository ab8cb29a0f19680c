"""Questions to the servers of references, each sent once for all who may have its answer.

Owns: sharing answers, how many questions a host gets at once, leaving a host alone that has trouble.
Does not own: what is asked (``base.Resolver``), when a request tries again (``prepare``).

An answer is what the daemon saw when it asked, and a request may only have what was seen after it was
accepted (docs/promises.md, promise 4). So each question notes, right before it is sent, the highest place
in line that was given by then, and its answer is for requests up to that place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar, cast

import anyio

from wherry.errors import ReferenceUnavailable
from wherryd.breaker import Breaker
from wherryd.clock import Clock
from wherryd.references.base import Found, Page, Resolver, Target

#: Questions at one server at once (docs/decisions/0011-questions-per-host.md).
PER_HOST = 64
#: The same as long as a host has not answered, or its last question failed: silent ones hold few connections.
UNTRIED = 8
#: Objects in answers that are kept, some 15 MB.
KEPT_OBJECTS = 50_000
#: Failures in a row after which a host is left alone; a look-up of its name that fails is enough.
FAILURES = 5
FIRST_S = 0.5
LONGEST_S = 60.0
#: The longest pause that a host can ask for; a request's patience ends about then (reference_timeout_s).
LONGEST_ASKED_S = 1800.0

T = TypeVar("T")
_Key = tuple[str, str, str | None]  # URI, server, where a listing goes on (None: one object)
_Answer = Found | Page | None


class Told(NamedTuple, Generic[T]):
    """An answer, and when its question was sent: seconds since 1970."""

    answer: T
    asked: float


class _Question:
    """One question; its answer is for requests up to a place in line."""

    def __init__(self) -> None:
        self.covers: int | None = None  # None: not sent yet
        self.answered = anyio.Event()
        self.answer: _Answer = None
        self.asked = 0.0
        self.error: Exception | None = None
        self.is_cut = False  # whoever asked was cancelled

    def is_for(self, place: int) -> bool:
        """Whether a request of this place in line, which is accepted by now, may have the answer."""
        return self.covers is None or place <= self.covers

    @property
    def weight(self) -> int:
        """Objects in the answer."""
        return len(self.answer.objects) if isinstance(self.answer, Page) else 1


class Asker:
    """Asks resolvers.

    Args:
        last_place: gives the highest place in line that was given (``Queue.last_place``).
    """

    def __init__(self, clock: Clock, last_place: Callable[[], Awaitable[int]]) -> None:
        self._clock = clock
        self._last_place = last_place
        self._questions: OrderedDict[_Key, _Question] = OrderedDict()
        self._hosts: dict[str, Host] = {}
        self._kept = 0

    async def look(self, resolver: Resolver, target: Target, place: int) -> Told[Found | None]:
        """Ask about one object; raises as ``Resolver.look``, and what its host's trouble is.

        Args:
            place: in line, of the request that asks.
        """
        key = (target.uri, target.server, None)
        answer = await self._ask(key, resolver.host(target), place, lambda: resolver.look(target))
        return cast("Told[Found | None]", answer)

    async def list(self, resolver: Resolver, target: Target, after: str, place: int) -> Told[Page]:
        """Ask for a page of a listing; raises as ``look``."""
        key = (target.uri, target.server, after)
        answer = await self._ask(
            key, resolver.host(target), place, lambda: resolver.list(target, after)
        )
        return cast("Told[Page]", answer)

    def nudge(self) -> None:
        """Ask again now whom trouble keeps from being asked: the user said so."""
        self._hosts.clear()

    async def _ask(
        self, key: _Key, host: str, place: int, send: Callable[[], Awaitable[_Answer]]
    ) -> Told[_Answer]:
        while (there := self._questions.get(key)) is not None and there.is_for(place):
            await there.answered.wait()
            if there.error is not None:
                raise there.error
            if not there.is_cut:
                return Told(there.answer, there.asked)
        question = _Question()
        self._forget(key)
        self._questions[key] = question
        try:
            async with self._host(host).turn():
                question.covers = await self._last_place()
                question.asked = self._clock.now()
                question.answer = await send()
        except Exception as error:
            question.error = error
            raise
        except BaseException:
            question.is_cut = True
            raise
        finally:
            question.answered.set()
            self._note_answered(key, question)
        return Told(question.answer, question.asked)

    def _note_answered(self, key: _Key, question: _Question) -> None:
        if self._questions.get(key) is not question:
            return
        if question.error is not None or question.is_cut:
            del self._questions[key]
            return
        self._kept += question.weight
        if self._kept > KEPT_OBJECTS:
            self._forget_old(key)

    def _forget_old(self, newest: _Key) -> None:
        """Forget answers, the oldest first, down to three quarters: each look goes through all of them."""
        for old, question in list(self._questions.items()):
            if self._kept <= KEPT_OBJECTS * 3 // 4:
                return
            if old != newest and question.answered.is_set():
                self._forget(old)

    def _forget(self, key: _Key) -> None:
        question = self._questions.pop(key, None)
        if question is not None and question.answered.is_set():
            self._kept -= question.weight

    def _host(self, name: str) -> Host:
        return self._hosts.setdefault(name, Host(self._clock))


class Host:
    """Whether one server may be asked now."""

    def __init__(self, clock: Clock) -> None:
        self._places = anyio.Semaphore(PER_HOST)
        self._few_places = anyio.Semaphore(UNTRIED)
        self._is_well = False  # it answered the last question
        self._failures = 0
        self._breaker = Breaker(clock, FIRST_S, LONGEST_S)
        self._trouble: ReferenceUnavailable | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Ask something in the block. Raises the host's trouble while it is left alone.

        After a pause one question goes ahead; the others follow when it was answered.
        """
        self._refuse()
        async with self._places, self._trial():
            self._refuse()
            is_probe = self._breaker.go()
            try:
                yield
            except ReferenceUnavailable as error:
                self._note_failure(error, is_probe=is_probe)
                raise
            except Exception:
                self._note_answer()  # a refusal is an answer
                raise
            else:
                self._note_answer()
            finally:
                if is_probe:
                    self._breaker.probed()

    @asynccontextmanager
    async def _trial(self) -> AsyncGenerator[None, None]:
        """Let few in until it has answered, and then all who wait for that."""
        if not self._is_well:
            async with self._few_places:
                if not self._is_well:
                    yield
                    return
        yield

    def _refuse(self) -> None:
        told = self._trouble
        if told is not None and self._breaker.keeps_away:
            raise ReferenceUnavailable(
                told.message,
                hint=told.hint,
                host=told.host,
                retry_after_s=self._breaker.left_s,
                was_asked=False,
            ) from told

    def _note_answer(self) -> None:
        self._is_well = True
        self._failures = 0
        self._breaker.reset()
        self._trouble = None

    def _note_failure(self, error: ReferenceUnavailable, *, is_probe: bool) -> None:
        self._is_well = False
        self._failures += 1
        asked = error.retry_after_s is not None
        if not (is_probe or asked or self._failures >= FAILURES):
            return
        if self._trouble is None or is_probe:
            self._trouble = error
        self._breaker.trip(
            is_probe=is_probe, least_s=min(error.retry_after_s or 0.0, LONGEST_ASKED_S)
        )
