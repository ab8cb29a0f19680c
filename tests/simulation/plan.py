"""What a history is made of: how many of whom, which faults, which changes of the store."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.simulation.store import Faults

#: What may become of a store: nothing is left; the newest versions are gone; that, and another id; another
#: record lies at the highest number.
CHANGES = ("emptied", "put back", "exchanged", "overwritten")
#: While it changes: all daemons are dead; the store does not answer; nobody asks for over a minute.
WAYS = ("dead", "away", "quiet")


@dataclass
class Plan:
    """What a history is made of."""

    homes: int = 2
    lanes: int = 1
    processes: int = 2
    logs: int = 3
    contents: int = 3
    types: tuple[str, ...] = ("model",)
    offline: float = 0.0
    lives: int = 2
    aliases: tuple[str, ...] = ()
    bad: float = 0.05
    cancels: int = 1
    retries: int = 0
    links: int = 0
    moves: int = 0
    movers: int = 1
    deletes: int = 0
    #: Further homes that begin as a copy of the first one, in the middle of it all.
    copies: int = 0
    #: The store is changed this often, to one of ``kinds`` in one of ``ways``.
    changes: int = 0
    kinds: tuple[str, ...] = CHANGES
    ways: tuple[str, ...] = WAYS
    #: Another store lies at the address this often, for up to so many seconds; then it is the old one again.
    moments: int = 0
    moment_s: float = 3.0
    #: Somebody removes blobs and manifests this often: some of them, or all.
    removals: int = 0
    #: Drafts; who writes to each in each home, and finishes it; how likely an entry is at a shared path.
    drafts: int = 0
    writers: int = 2
    finishers: int = 1
    clashes: float = 0.0
    #: Processes in each home that change versions; who deletes the highest of those, again and again.
    incrementers: int = 0
    buried: int = 0
    #: How likely an upload takes up to a minute.
    big: float = 0.0
    #: The longest pause around each step of a queue, in which others may come between, seconds.
    slow_queue_s: float = 0.0
    spread_s: float = 3.0
    faults: Faults = field(default_factory=Faults)


def random_plan(chance: random.Random) -> Plan:
    """Choose how much of everything a history has."""
    plan = _plan_without_upheaval(chance)
    upheaval = chance.random()
    if upheaval < 0.15:
        _change_stores(plan, chance)
    elif upheaval < 0.25:
        _copy_homes(plan)
    elif upheaval < 0.35:
        plan.moments, plan.moment_s = chance.choice((1, 3)), chance.choice((0.1, 3.0, 30.0))
    elif upheaval < 0.5:
        plan.slow_queue_s = chance.choice((0.01, 0.2, 1.0))
    elif upheaval < 0.6:
        plan.removals = chance.choice((1, 3, 6))
    if not (plan.changes or plan.copies or plan.removals) and chance.random() < 0.3:
        _add_drafts(plan, chance)
    if not plan.changes and chance.random() < 0.25:
        plan.incrementers, plan.buried = chance.choice((1, 1, 2)), chance.choice((0, 0, 1))
        if plan.copies:
            plan.buried = 0
    return plan


def _plan_without_upheaval(chance: random.Random) -> Plan:
    aliases = chance.choice(((), ("best",), ("best", "prod")))
    return Plan(
        homes=chance.choice((1, 2, 2, 3)),
        lanes=chance.choice((1, 1, 2)),
        processes=chance.choice((1, 2)),
        logs=chance.randint(1, 4),
        contents=chance.choice((1, 2, 3, 100)),
        types=chance.choice((("model",), ("model",), ("model", "dataset"))),
        offline=chance.choice((0.0, 0.0, 0.3)),
        lives=chance.choice((0, 1, 2, 4)),
        aliases=aliases,
        bad=chance.choice((0.0, 0.1, 0.3)),
        big=chance.choice((0.0, 0.0, 0.2)),
        cancels=chance.choice((0, 1, 3)),
        retries=chance.choice((0, 2)),
        links=chance.choice((0, 0, 2)),
        moves=chance.choice((0, 2)) if aliases else 0,
        deletes=chance.choice((0, 0, 1, 2)),
        spread_s=chance.choice((0.2, 3.0, 30.0)),
        faults=_random_faults(chance),
    )


def _random_faults(chance: random.Random) -> Faults:
    def rate(most: float) -> float:
        return chance.choice((0.0, 0.0, chance.random() * most))

    return Faults(
        lost_request=rate(0.3),
        lost_answer=rate(0.3),
        late=rate(0.3),
        twice=rate(0.2),
        repeated=rate(0.2),
        slow_answer=rate(0.3),
        conflict=rate(0.2),
        bare_412=rate(0.2),
        unavailable=rate(0.2),
        latency_s=chance.choice((0.01, 0.1, 1.0)),
    )


def _add_drafts(plan: Plan, chance: random.Random) -> None:
    plan.drafts = chance.choice((1, 1, 2))
    plan.writers, plan.finishers = chance.choice((1, 2, 4)), chance.choice((0, 1, 2))
    plan.clashes = chance.choice((0.0, 0.0, 0.4))


def _change_stores(plan: Plan, chance: random.Random) -> None:
    """No names: what an alias in a changed store should be is nobody's promise."""
    plan.changes = chance.choice((1, 1, 2))
    plan.aliases, plan.moves, plan.links = (), 0, 0


def _copy_homes(plan: Plan) -> None:
    """Nothing that one home may be told and its copy not, and no two contents alike."""
    plan.copies, plan.contents = 1, 1_000_000_000
    plan.bad, plan.cancels, plan.retries, plan.links, plan.moves = 0.0, 0, 0, 0, 0
    plan.deletes, plan.types = 0, ("model",)
