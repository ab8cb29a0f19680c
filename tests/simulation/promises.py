"""What must hold in every history (docs/promises.md and docs/commit.md), watched while it happens."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field

from tests.simulation.contents import named_by
from tests.simulation.store import Change, World
from wherryd.registry import layout
from wherryd.registry.layout import HEX

VERSION = re.compile(r"^(?P<lane>.*)/versions/v(?P<number>\d{8})\.json$")
ALIAS = re.compile(r"^(?P<lane>.*)/aliases/(?P<alias>[^/]+)\.json$")
_CLAIM = re.compile(r"^(?P<lane>.*)/artifact\.json$")


class Broken(AssertionError):
    """A promise was broken."""


@dataclass
class Logged:
    """One ``log_artifact`` call of one process, as that process saw it."""

    home: str
    lane: str
    id: str
    type: str
    content: str
    aliases: tuple[str, ...]
    is_bad: bool
    is_offline: bool
    #: When it was logged; and when it took its place: then too, or at a sync or retry.
    held_called: float
    called: float | None
    held_returned: float | None = None
    returned: float | None = None
    is_durable: bool = False
    cancelled: bool = False
    #: Which sync gave it its place.
    sync: int | None = None


@dataclass
class Moved:
    """One move of an alias by a user."""

    user: str
    lane: str
    alias: str
    lane_highest: int
    start: float
    end: float | None = None


@dataclass
class Life:
    """One version, from its creation to its deletion."""

    request: str
    content: str
    created: float
    deleted: float | None = None


@dataclass(frozen=True)
class Upheaval:
    """The store became another one."""

    #: By lane: how many versions are left; whose record and content the highest is now, if not the old one's.
    left: dict[str, int]
    foreign: dict[str, tuple[str, str]]
    #: Requests that had ended.
    ended: set[str]
    #: (home, lane) that must not write before the user said so; and those that may stop.
    frozen: set[tuple[str, str]]
    doubtful: set[tuple[str, str]]
    #: Of those that must not write, where the store is the same: number and request of the highest they know.
    tops: dict[tuple[str, str], tuple[int, str]]


@dataclass
class Promises:
    """Watches a history while it happens; ``judging`` looks at what it has seen."""

    world: World
    logged: dict[str, Logged] = field(default_factory=dict)
    moves: list[Moved] = field(default_factory=list)
    #: By lane: versions in order of their numbers; types that it ever belonged to.
    lives: dict[str, list[Life]] = field(default_factory=lambda: defaultdict(list))
    types: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: By lane: types of what was asked of drafts.
    drafted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: Requests that change versions: ``incrementing`` looks at what theirs have.
    changed_by: set[str] = field(default_factory=set)
    #: With what these may fail, for what has become of their bases.
    may_fail: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, list[tuple[float, str, dict[str, object]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    #: Each home's queue.
    rows: dict[str, sqlite3.Connection] = field(default_factory=dict)
    frozen: set[tuple[str, str]] = field(default_factory=set)
    tops: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    #: Requests that ended before the store was changed: their versions may be gone.
    forgotten: set[str] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)

    def watch(self, change: Change) -> None:
        """Look at a change at the moment it is made; what is broken is told at the end, since an
        error raised here would end up in the daemon that made the change.
        """
        try:
            self._watch(change)
        except Broken as broken:
            self.broken.append(broken)

    def watch_refused(self, log: Logged) -> None:
        """Look at a call that raised ``TypeTaken``."""
        types = {other.type for other in self.logged.values() if other.lane == log.lane}
        if not (types | self.types[log.lane] | self.drafted[log.lane]) - {log.type}:
            self.broken.append(Broken(f"{log.id} was refused, and its name is nobody's"))

    def _watch(self, change: Change) -> None:
        if match := VERSION.match(change.key):
            self._watch_store(match["lane"], change)
            self._watch_version(match["lane"], int(match["number"]), change)
        elif match := ALIAS.match(change.key):
            self._watch_store(match["lane"], change)
            self._watch_alias(change)
        elif match := _CLAIM.match(change.key):
            self._watch_store(match["lane"], change)
            self.types[match["lane"]].add(json.loads(change.body or b"")["type"])

    def _watch_store(self, lane: str, change: Change) -> None:
        is_frozen = (change.writer, lane) in self.frozen
        require(not is_frozen, f"{change.key} written before the user said `wherry retry`")

    def _watch_version(self, lane: str, number: int, change: Change) -> None:
        require(change.body is not None, f"record {change.key} was removed")
        record = json.loads(change.body or b"")
        lives = self.lives[lane]
        if number == len(lives):
            lives.append(Life(record["request"], record["content"], change.at))
            # Its own home did not know that it was there, and writes it again: all is as others know it.
            top = (number, record["request"])
            self.frozen -= {
                pair for pair in self.frozen if pair[1] == lane and self.tops.get(pair) == top
            }
            self._watch_named(lane, record, change)
            claimed = self._claimed(lane)
            require(claimed == record["type"], f"{change.key} is there before its type is claimed")
            return
        require(number < len(lives), f"{change.key} leaves a hole above v{len(lives) - 1}")
        life = lives[number]
        same = record["request"] == life.request and record["content"] == life.content
        require(same and "deleted" in record, f"{change.key} was written over")
        life.deleted = change.at

    def _watch_named(self, lane: str, record: dict[str, str], change: Change) -> None:
        """All that a record names is there, or was removed after its request had put it, or looked at it."""
        if HEX.fullmatch(record["request"]):
            manifest = layout.manifest_key("p", record["manifest"])
            body = self.world.objects.get(manifest)
            require(body is not None, f"{change.key} names {manifest}, which is not there")
            return  # nothing is removed where there are drafts; ``drafting`` looks at the entries
        if record["request"] in self.changed_by:
            return
        log = self.logged.get(record["request"])
        since = log.held_called if log else change.at
        for key in named_by(lane.split("/", maxsplit=1)[0], record["manifest"]):
            is_missed = self.world.is_missed(key, change.writer, since)
            require(not is_missed, f"{change.key} names what is not there")

    def _claimed(self, lane: str) -> object:
        claim = self.world.objects.get(f"{lane}/artifact.json")
        return json.loads(claim[0])["type"] if claim else None

    def _watch_alias(self, change: Change) -> None:
        require(change.body is not None, f"{change.key} was removed")
        alias = json.loads(change.body or b"")
        before = self.names[change.key]
        highest = before[-1][2]["highest"] if before else -1
        if not change.writer.startswith("user"):
            require(self._has_row(change.writer, alias), f"{change.key} moved before the row")
            require(
                alias["version"] > highest, f"{change.key} moved down to {alias} from {highest}"
            )
        before.append((change.at, change.writer, alias))

    def _has_row(self, home: str, alias: dict[str, object]) -> bool:
        """Whether the home's queue has a settled request that asked for this."""
        found = self.rows[home].execute(
            "SELECT 1 FROM requests, json_each(requests.aliases) WHERE version = ? AND value = ?"
            " AND state IN ('settled', 'done')",
            (alias["version"], alias["alias"]),
        )
        return found.fetchone() is not None

    def changed(self, upheaval: Upheaval) -> None:
        """The store is another one: what had ended before is judged no more."""
        for lane, left in upheaval.left.items():
            del self.lives[lane][left:]
        for lane, (request, content) in upheaval.foreign.items():
            before = self.lives[lane][-1]
            self.lives[lane][-1] = Life(request, content, before.created, before.deleted)
            self.forgotten.add(request)
        self.forgotten |= upheaval.ended
        for request in upheaval.ended & self.logged.keys():
            del self.logged[request]
        self.frozen |= upheaval.frozen
        self.tops = upheaval.tops
        self.doubtful |= upheaval.doubtful
        self.names.clear()
        self.world.puts.clear()


def require(holds: bool, otherwise: str) -> None:
    """Raise ``Broken`` where a promise does not hold."""
    if not holds:
        raise Broken(otherwise)
