"""What must hold in every history (docs/promises.md and docs/commit.md)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from tests.simulation.store import Change, World
from wherryd.model import State
from wherryd.queue.base import Request

_VERSION = re.compile(r"^(?P<lane>.*)/versions/v(?P<number>\d{8})\.json$")
_ALIAS = re.compile(r"^(?P<lane>.*)/aliases/(?P<alias>[^/]+)\.json$")


class Broken(AssertionError):
    """A promise was broken."""


@dataclass
class Logged:
    """One ``log_artifact`` call of one process, as that process saw it."""

    home: str
    lane: str
    id: str
    content: str
    aliases: tuple[str, ...]
    called: float
    returned: float | None = None
    cancelled: bool = False


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


@dataclass
class Promises:
    """Watches a history while it happens, and judges it at its end."""

    world: World
    logged: dict[str, Logged] = field(default_factory=dict)
    moves: list[Moved] = field(default_factory=list)
    #: versions by lane key, in order of their numbers
    lives: dict[str, list[Life]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, list[tuple[float, str, dict[str, object]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    #: each home's queue
    rows: dict[str, sqlite3.Connection] = field(default_factory=dict)
    frozen: bool = False
    #: requests that ended before the store was put back from a backup: their versions may be gone
    forgotten: set[str] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)

    # ── throughout ─────────────────────────────────────────────────────────────────────────────
    def watch(self, change: Change) -> None:
        """Look at a change at the moment it is made; what is broken is told at the end, since an
        error raised here would end up in the daemon that made the change.
        """
        try:
            self._watch(change)
        except Broken as broken:
            self.broken.append(broken)

    def _watch(self, change: Change) -> None:
        if match := _VERSION.match(change.key):
            self._watch_version(match["lane"], int(match["number"]), change)
        elif match := _ALIAS.match(change.key):
            self._watch_alias(change)

    def _watch_version(self, lane: str, number: int, change: Change) -> None:
        require(not self.frozen, f"{change.key} written before the user said `wherry retry`")
        require(change.body is not None, f"record {change.key} was removed")
        record = json.loads(change.body or b"")
        lives = self.lives[lane]
        if number == len(lives):
            lives.append(Life(record["request"], record["content"], change.at))
            return
        require(number < len(lives), f"{change.key} leaves a hole above v{len(lives) - 1}")
        life = lives[number]
        same = record["request"] == life.request and record["content"] == life.content
        require(same and "deleted" in record, f"{change.key} was written over")
        life.deleted = change.at

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

    def forget(self, requests: set[str]) -> None:
        """The store was put back: what had ended before is judged no more."""
        self.forgotten |= requests
        self.logged.clear()
        self.moves.clear()
        self.names.clear()

    def _has_row(self, home: str, alias: dict[str, object]) -> bool:
        """Whether the home's queue has a settled request that asked for this."""
        found = self.rows[home].execute(
            "SELECT 1 FROM requests, json_each(requests.aliases) WHERE version = ? AND value = ?"
            " AND state IN ('settled', 'done')",
            (alias["version"], alias["alias"]),
        )
        return found.fetchone() is not None

    # ── at the end ─────────────────────────────────────────────────────────────────────────────
    def judge(self, requests: dict[str, list[Request]]) -> None:
        """Check the whole history against the queues of all homes.

        Args:
            requests: all rows by home, after everything has come to rest.
        """
        for broken in self.broken:
            raise broken
        ended = {
            request.id: request
            for rows in requests.values()
            for request in rows
            if request.id not in self.forgotten
        }
        require(not self.world.overlaps_in_lanes(), "two commits in flight in a lane")
        self._judge_bytes()
        self._judge_ends(ended)
        self._judge_versions(ended)
        for home in requests:
            self._judge_order(home, ended)
        self._judge_aliases(ended)

    def _judge_bytes(self) -> None:
        sent: dict[tuple[str, str, str], bytes] = {}
        for home, key, body in self.world.puts:
            if _VERSION.match(key) and not home.startswith("user"):
                request = json.loads(body)["request"]
                first = sent.setdefault((home, key, request), body)
                require(first == body, f"other bytes at a second try of {key}")

    def _judge_ends(self, ended: dict[str, Request]) -> None:
        for log in self.logged.values():
            if log.returned is None:
                continue
            require(log.id in ended, f"request {log.id} was accepted and is lost")
            request = ended[log.id]
            require(
                request.state in (State.DONE, State.FAILED, State.CANCELLED),
                f"request {log.id} is {request.state} at rest: {request.error} {request.reason}",
            )
            if log.cancelled:
                require(request.state is State.CANCELLED, f"request {log.id} was cancelled")

    def _judge_versions(self, ended: dict[str, Request]) -> None:
        for lane, lives in self.lives.items():
            ids = [life.request for life in lives]
            require(len(set(ids)) == len(ids), f"a request became two versions: {ids}")
            for number, life in enumerate(lives):
                self._judge_version(lane, number, life, ended)
            for below, above in pairwise(lives):
                again = below.content == above.content
                was_there = below.deleted is None or below.deleted > above.created
                require(not (again and was_there), f"same content, two versions in {lane}")
        for request in ended.values():
            if request.state is State.DONE:
                self._judge_settled(request)

    def _judge_version(self, lane: str, number: int, life: Life, ended: dict[str, Request]) -> None:
        if life.request in self.forgotten:
            return
        require(life.request in ended, f"v{number} of {lane} belongs to no request")
        request = ended[life.request]
        require(request.state is State.DONE, f"v{number} is {request.state}: {life.request}")
        require(request.version == number, f"{life.request} is v{number}, told v{request.version}")

    def _judge_settled(self, request: Request) -> None:
        lives = self.lives[lane_key(request)]
        require(
            request.version is not None and request.version < len(lives), "told a missing version"
        )
        assert request.version is not None
        life = lives[request.version]
        if life.request == request.id:
            return
        require(
            life.content == request.content, f"{request.id} was told v{request.version} of another"
        )
        called = self.logged[request.id].called
        next_one = lives[request.version + 1] if request.version + 1 < len(lives) else None
        was_highest = next_one is None or next_one.created > called
        was_there = life.deleted is None or life.deleted > called
        overlap = life.deleted is None or next_one is None or life.created < life.deleted
        require(
            was_highest and was_there and overlap, f"v{request.version} was not the highest then"
        )

    def _judge_order(self, home: str, ended: dict[str, Request]) -> None:
        by_lane: dict[str, list[tuple[Logged, Request]]] = defaultdict(list)
        for log in self.logged.values():
            request = ended.get(log.id)
            if log.home == home and request and request.state is State.DONE:
                by_lane[log.lane].append((log, request))
        for logs in by_lane.values():
            for first, one in logs:
                for second, other in logs:
                    if first.returned is not None and first.returned < second.called:
                        self._judge_pair(first, one, second, other)

    def _judge_pair(self, first: Logged, one: Request, second: Logged, other: Request) -> None:
        assert one.version is not None and other.version is not None
        if first.content == second.content:
            require(one.version <= other.version, f"{first.id} came before {second.id}")
        else:
            require(one.version < other.version, f"{first.id} came before {second.id}")

    def _judge_aliases(self, ended: dict[str, Request]) -> None:
        for key, writes in self.names.items():
            match = _ALIAS.match(key)
            assert match
            lane, alias = match["lane"], match["alias"]
            given = {
                request.version
                for request in ended.values()
                if lane_key(request) == lane
                and alias in request.aliases
                and request.state is State.DONE
            }
            for _, writer, body in writes:
                if not writer.startswith("user"):
                    require(body["version"] in given, f"{key} at {body}, which nobody asked for")
            highest = max((version for version in given if version is not None), default=-1)
            last = writes[-1][2]["highest"]
            assert isinstance(last, int)
            require(last >= highest, f"{key} never came to v{highest}")
            self._judge_moves(key, lane, alias, writes)

    def _judge_moves(
        self, key: str, lane: str, alias: str, writes: list[tuple[float, str, dict[str, object]]]
    ) -> None:
        for move in self.moves:
            if (move.lane, move.alias) != (lane, alias) or move.end is None:
                continue
            mine = [at for at, writer, _ in writes if writer == move.user and at >= move.start]
            require(bool(mine), f"{move} wrote nothing")
            for at, writer, body in writes:
                version = body["version"]
                if at > mine[0] and not writer.startswith("user"):
                    assert isinstance(version, int)
                    require(version > move.lane_highest, f"{key}: {move} was taken back by logging")
            later = [at for at in mine if at > move.end]
            for at in later:
                between = [w for w in writes if mine[0] < w[0] < at and w[1] != move.user]
                require(not between, f"{key}: {move} happened again after others moved it")


def lane_key(request: Request) -> str:
    """The key under which a request's artifact lies."""
    return f"{request.lane.project}/artifacts/{request.lane.name}"


def require(holds: bool, otherwise: str) -> None:
    """Raise ``Broken`` where a promise does not hold."""
    if not holds:
        raise Broken(otherwise)
