"""The whole history against the queues of all homes, after everything has come to rest."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tests.simulation.drafting import Drafting
from tests.simulation.promises import (
    ALIAS,
    VERSION,
    Life,
    Logged,
    Promises,
    require,
)
from tests.simulation.store import RESTARTED
from wherryd.model import RequestKind, State
from wherryd.queue.base import Request
from wherryd.registry.layout import HEX

#: By home and id.
Ended = dict[str, dict[str, Request]]


def judge(
    promises: Promises, requests: Mapping[str, Sequence[Request]], drafting: Drafting
) -> None:
    """Raise ``Broken`` for the first promise that does not hold.

    Args:
        requests: all rows by home.
        drafting: all that was asked of drafts.
    """
    for broken in promises.broken:
        raise broken
    of_drafts = {home: [row for row in rows if row.draft] for home, rows in requests.items()}
    ended = {
        home: {row.id: row for row in rows if row.id not in promises.forgotten and not row.draft}
        for home, rows in requests.items()
    }
    require(not promises.world.overlaps_in_lanes(), "two commits in flight in a lane")
    _judge_bytes(promises)
    _judge_ends(promises, ended)
    _judge_versions(promises, ended)
    for home, rows in ended.items():
        others = [other for name, other in ended.items() if name != home]
        _judge_order(promises, rows, {id_ for other in others for id_ in other})
    drafting.judge(of_drafts)
    finished = {
        home: {row.id: row for row in rows if row.kind is RequestKind.FINISH}
        for home, rows in of_drafts.items()
    }
    _judge_aliases(promises, {home: rows | finished[home] for home, rows in ended.items()})


def _judge_bytes(promises: Promises) -> None:
    sent: dict[tuple[str, str, str], bytes] = {}
    for home, key, body in promises.world.puts:
        if key == RESTARTED:  # what was on its way then may be made anew
            sent = {sending: first for sending, first in sent.items() if sending[0] != home}
        elif VERSION.match(key) and not home.startswith("user"):
            request = json.loads(body)["request"]
            first = sent.setdefault((home, key, request), body)
            require(first == body, f"other bytes at a second try of {key}")


# ── what becomes of a request ──────────────────────────────────────────────────────────────────
def _judge_ends(promises: Promises, ended: Ended) -> None:
    for log in promises.logged.values():
        is_there = log.id in ended[log.home]
        require(is_there or not log.is_durable, f"request {log.id} was accepted and is lost")
        for rows in ended.values():
            if log.id in rows:
                _judge_end(promises, log, rows[log.id])


def _judge_end(promises: Promises, log: Logged, request: Request) -> None:
    what = f"request {log.id} is {request.state} at rest: {request.error} {request.reason}"
    require(request.state in (State.DONE, State.FAILED, State.CANCELLED), what)
    require(log.cancelled == (request.state is State.CANCELLED), f"{what}; {log.cancelled=}")
    if request.state is State.FAILED:
        is_taken = bool(promises.types[log.lane] - {log.type})
        may_fail = {"FileChanged"} if log.is_bad else set()
        may_fail |= {"TypeTaken"} if is_taken else set()
        may_fail |= promises.may_fail.get(log.id, set())
        require(request.error in may_fail, f"{what}; and nothing is wrong with it")
    if request.state is State.DONE:
        require(not log.is_bad, f"{what}; and something is wrong with it")


def _judge_versions(promises: Promises, ended: Ended) -> None:
    for lane, lives in promises.lives.items():
        ids = [life.request for life in lives]
        require(len(set(ids)) == len(ids), f"a request became two versions: {ids}")
        for number, life in enumerate(lives):
            _judge_version(promises, lane, number, life, ended)
        for below, above in pairwise(lives):
            again = below.content == above.content and not HEX.fullmatch(above.request)
            was_there = below.deleted is None or below.deleted > above.created
            require(not (again and was_there), f"same content, two versions in {lane}")
    for request in _rows(ended):
        if request.state is State.DONE:
            _judge_settled(promises, request)


def _judge_version(promises: Promises, lane: str, number: int, life: Life, ended: Ended) -> None:
    if life.request in promises.forgotten or HEX.fullmatch(life.request):
        return  # what belongs to a draft, ``drafting`` judges
    found = [rows[life.request] for rows in ended.values() if life.request in rows]
    require(bool(found), f"v{number} of {lane} belongs to no request")
    for request in found:
        require(request.state is State.DONE, f"v{number} is {request.state}: {life.request}")
        require(request.version == number, f"{life.request} is v{number}, told v{request.version}")


def _judge_settled(promises: Promises, request: Request) -> None:
    lives = promises.lives[lane_key(request)]
    require(request.version is not None and request.version < len(lives), "told a missing version")
    assert request.version is not None
    life = lives[request.version]
    if life.request == request.id:
        return
    require(life.content == request.content, f"{request.id} was told v{request.version} of another")
    called = promises.logged[request.id].called
    assert called is not None
    next_one = lives[request.version + 1] if request.version + 1 < len(lives) else None
    was_highest = next_one is None or next_one.created > called
    was_there = life.deleted is None or life.deleted > called
    overlap = life.deleted is None or next_one is None or life.created < life.deleted
    require(was_highest and was_there and overlap, f"v{request.version} was not the highest then")


# ── order ──────────────────────────────────────────────────────────────────────────────────────
def _judge_order(promises: Promises, rows: Mapping[str, Request], copied: set[str]) -> None:
    by_lane: dict[str, list[tuple[Logged, Request]]] = defaultdict(list)
    for log in promises.logged.values():
        request = rows.get(log.id)
        # What was held when its home was copied, each of the homes lets go when it likes.
        is_free = log.is_offline and log.id in copied
        if request and request.state is State.DONE and not is_free:
            by_lane[log.lane].append((log, request))
    for logs in by_lane.values():
        for first, one in logs:
            for second, other in logs:
                if _came_before(first, second):
                    _judge_pair(first, one, second, other)


def _came_before(first: Logged, second: Logged) -> bool:
    """Whether one had its place before the other was asked for."""
    if first.sync is not None and first.sync == second.sync:
        return first.held_returned is not None and first.held_returned < second.held_called
    if first.returned is None or second.called is None:
        return False
    return first.returned < second.called


def _judge_pair(first: Logged, one: Request, second: Logged, other: Request) -> None:
    assert one.version is not None and other.version is not None
    if first.content == second.content:
        require(one.version <= other.version, f"{first.id} came before {second.id}")
    else:
        require(one.version < other.version, f"{first.id} came before {second.id}")


# ── aliases ────────────────────────────────────────────────────────────────────────────────────
def _judge_aliases(promises: Promises, ended: Ended) -> None:
    for request in _rows(ended):
        for alias in request.aliases if request.state is State.DONE else ():
            key = f"{lane_key(request)}/aliases/{alias}.json"
            require(key in promises.names, f"{key} never came to v{request.version}")
    for key, writes in promises.names.items():
        match = ALIAS.match(key)
        assert match
        lane, alias = match["lane"], match["alias"]
        given = {
            request.version
            for request in _rows(ended)
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
        _judge_moves(promises, key, lane, alias, writes)


def _judge_moves(
    promises: Promises,
    key: str,
    lane: str,
    alias: str,
    writes: list[tuple[float, str, dict[str, object]]],
) -> None:
    for move in promises.moves:
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


def _rows(ended: Ended) -> Iterator[Request]:
    for rows in ended.values():
        yield from rows.values()
