"""A request's lookups: from what the user named to entries.

Owns: asking for all of them at once, keeping what was found as it comes, when to try again and when to
give up (docs/promises.md, promise 5). Does not own: what servers are asked and how often
(``references``), the entries' way from here (``manifests``).

What a kill leaves: the lookups that were kept are done, a listing goes on after its last page that was
kept; the others are asked for by the next start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import anyio
import msgspec

from wherry.errors import BadPath, PathTaken, ReferenceFailed, ReferenceUnavailable
from wherry.wire.failpoints import failpoint
from wherry.wire.names import check_path
from wherry.wire.secrets import masked
from wherryd.clock import Clock, full_jitter, rfc3339
from wherryd.model import Entry, Lookup, Reference
from wherryd.prepare.courtesy import Courtesy
from wherryd.queue.base import Finding, Queue, Request
from wherryd.references.asking import Asker
from wherryd.references.base import Found, Resolver, Target
from wherryd.references.table import Resolvers

#: Lookups of one request that are under way at once.
AT_ONCE = 128
PAGE = 1000
#: Results that are kept together; a kill costs at most so many answers.
KEEP = 100
FIRST_S = 0.5
LONGEST_S = 60.0
#: Times that a name which does not exist is asked for.
NAME_TRIES = 3

_BEFORE_SAVE = failpoint("prepare.lookups.before-save")
_AFTER_SAVE = failpoint("prepare.lookups.after-save")


class Rest(msgspec.Struct, frozen=True):
    """Some servers gave no answer: when to try again, and why."""

    pause_s: float
    error: ReferenceUnavailable


class Lookups:
    """Resolves requests' lookups.

    Args:
        timeout_s: how long a request waits for servers that give no answer at all.
        is_receiving: whether to stand back for requests that come in.
    """

    def __init__(
        self,
        queue: Queue,
        resolvers: Resolvers,
        asker: Asker,
        clock: Clock,
        timeout_s: float,
        is_receiving: Callable[[], bool] = lambda: False,
    ) -> None:
        self._courtesy = Courtesy(clock, is_receiving)
        self._queue = queue
        self._resolvers = resolvers
        self._asker = asker
        self._clock = clock
        self._timeout_s = timeout_s
        self._patience: dict[int, _Patience] = {}

    async def resolve(self, request: Request) -> Rest | None:
        """Ask for all lookups that are not done; None when all of them are.

        Raises ``ReferenceFailed`` where the request can't succeed.
        """
        patience = self._patience.pop(request.row, None) or _Patience(self._timeout_s)
        round_ = _Round(self._queue, self._resolvers, self._asker, self._courtesy, request)
        await round_.run()
        if not round_.missed:
            return None
        rest = patience.rest(round_, self._clock)
        self._patience[request.row] = patience
        return rest

    def nudge(self) -> None:
        """Ask again now: the user said so."""
        self._asker.nudge()


class _Patience:
    """How long a request has waited in vain; since this start of the daemon, without the time asleep."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: float | None = None
        self._rounds = 0
        self._unknown: Counter[int] = Counter()

    def rest(self, round_: _Round, clock: Clock) -> Rest:
        """Decide on a round that missed some; raises ``ReferenceFailed`` at the end of patience."""
        now = clock.monotonic()
        if round_.kept or self._since is None:
            self._since, self._rounds = now, 0
        for lookup, error in round_.missed:
            self._check(lookup, error, now)
        pause_s = full_jitter(clock, self._rounds, FIRST_S, LONGEST_S)
        self._rounds += 1
        error = round_.missed[0][1]
        asked_s = max((error.retry_after_s or 0.0) for _, error in round_.missed)
        return Rest(max(pause_s, min(asked_s, self._timeout_s)), error)

    def _check(self, lookup: Lookup, error: ReferenceUnavailable, now: float) -> None:
        assert self._since is not None
        if error.unknown_name and error.was_asked:
            self._unknown[lookup.number] += 1
            if self._unknown[lookup.number] >= NAME_TRIES:
                raise ReferenceFailed(
                    f"{error.message}: asked {NAME_TRIES} times",
                    hint="Look whether the name is right; then: wherry retry --all",
                ) from error
        if now - self._since >= self._timeout_s:
            raise ReferenceFailed(
                f"{error.message}; tried for {self._timeout_s / 60:.0f} min "
                f"(reference_timeout_s), {masked(lookup.uri)} among them",
                hint="When the server is well again: wherry retry --all",
            ) from error


class _Round:
    """One try at all that is missing."""

    def __init__(
        self, queue: Queue, resolvers: Resolvers, asker: Asker, courtesy: Courtesy, request: Request
    ) -> None:
        self._queue = queue
        self._resolvers = resolvers
        self._asker = asker
        self._courtesy = courtesy
        self._request = request
        self._found: list[Finding] = []
        self._places = anyio.Semaphore(AT_ONCE)
        self._saving = anyio.Lock()
        self._failure: Exception | None = None
        self.missed: list[tuple[Lookup, ReferenceUnavailable]] = []
        self.kept = 0

    async def run(self) -> None:
        """Ask, and keep what comes; raises the first failure that is final, after keeping the rest."""
        after = -1
        while page := await self._queue.lookups(self._request.row, after, PAGE):
            await self._run_page(page)
            await self._save()
            if self._failure is not None:
                raise self._failure
            after = page[-1].number
            if len(page) < PAGE:
                return

    async def _run_page(self, page: Sequence[Lookup]) -> None:
        async with anyio.create_task_group() as tasks:
            for lookup in page:
                await self._places.acquire()
                if self._failure is not None:
                    self._places.release()
                    tasks.cancel_scope.cancel()
                    return
                tasks.start_soon(self._run_one, lookup)

    async def _run_one(self, lookup: Lookup) -> None:
        try:
            await self._ask(lookup)
        except ReferenceUnavailable as error:
            self.missed.append((lookup, error))
        except BadPath as error:
            self._failure = self._failure or ReferenceFailed(
                f"{masked(lookup.uri)}: {error.message}", hint=error.hint
            )
        except Exception as error:  # noqa: BLE001 - raised again when the page has ended
            self._failure = self._failure or error
        finally:
            self._places.release()

    async def _ask(self, lookup: Lookup) -> None:
        resolver = await self._resolvers.of(lookup.uri)
        target = Target(lookup.uri, lookup.server)
        if lookup.found < 0:
            await self._queue.forget_found(self._request.row, lookup.number)
        if not lookup.is_prefix:
            place = self._request.place or 0
            told = await self._asker.look(resolver, target, place)
            if told.answer is not None:
                entry = _entry(lookup.name or told.answer.path, told.answer, rfc3339(told.asked))
                await self._keep(Finding(lookup.number, [entry], found=1))
                return
        await self._list(lookup, resolver, target)

    async def _list(self, lookup: Lookup, resolver: Resolver, target: Target) -> None:
        after: str | None = lookup.after
        count = max(0, lookup.found)
        place, prefix = self._request.place or 0, f"{lookup.name}/" if lookup.name else ""
        while after is not None:
            await self._courtesy.wait_turn()
            told = await self._asker.list(resolver, target, after, place)
            objects, after = told.answer.objects, told.answer.after
            count += len(objects)
            _check_count(lookup, count, is_last=after is None)
            entries = _entries(prefix, objects, told.asked)
            finding = Finding(
                lookup.number,
                entries,
                found=count,
                is_prefix=True,
                after=after or "",
                is_done=after is None,
            )
            await self._keep(finding)

    async def _keep(self, finding: Finding) -> None:
        self._found.append(finding)
        if not finding.is_done or len(self._found) >= KEEP:
            await self._save()

    async def _save(self) -> None:
        async with self._saving:
            found, self._found = self._found, []
            if not found:
                return
            _BEFORE_SAVE()
            try:
                await self._queue.save_found(self._request.row, found)
            except PathTaken as error:
                raise ReferenceFailed(error.message, hint=error.hint) from error
            _AFTER_SAVE()
            self.kept += len(found)


def _entries(prefix: str, objects: Sequence[Found], asked: float) -> list[Entry]:
    resolved = rfc3339(asked)  # once: for a thousand entries it takes as long as all else here
    return [_entry(prefix + found.path, found, resolved) for found in objects]


def _entry(path: str, found: Found, resolved: str) -> Entry:
    reference = Reference(
        uri=found.uri, max_objects=1, version=found.version, resolved=resolved, sums=found.sums
    )
    size = -1 if found.size is None else found.size
    return Entry(check_path(path), size, found.digest, reference=reference)


def _check_count(lookup: Lookup, count: int, *, is_last: bool) -> None:
    if count > lookup.max_objects:
        raise ReferenceFailed(
            f"{masked(lookup.uri)} has more than {lookup.max_objects:,} objects",
            hint="Raise max_objects of add_reference, or reference its folders one by one.",
        )
    if is_last and not count:
        raise ReferenceFailed(
            f"{masked(lookup.uri)} is no object, and no object lies below it",
            hint="Look whether bucket and key are right.",
        )
