"""Programs and daemons, killed together at random moments."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import Any

import pytest

from tests.faults.conftest import Stages
from tests.faults.scenes import TOOLS
from tests.faults.stage import Stage
from tests.soak import SOAK, rounds
from tests.support.machine import Program, wait_until
from tests.support.queue import done
from tests.support.reading import files, records

NAMES = ("a", "b", "c")
SLOTS, LIVES, LOGS = rounds(3, 6), rounds(3, 8), rounds(8, 30)

_LOGS = (
    TOOLS
    + """
slot, life, logs, *names = sys.argv[1:]
chance = random.Random(f"{slot} {life}")
run = wherry.init(project="p", settings={"finish": "detach"})
for n in range(int(logs)):
    name = chance.choice(names)
    made = wherry.Artifact(name, "t", metadata={"slot": int(slot), "life": int(life), "n": n})
    body = f"{slot} {life} {n} " * chance.choice((1, 5_000, 300_000))
    Path(f"{slot}.txt").write_text(body)
    made.add_file(f"{slot}.txt", name="body", policy=chance.choice(("mutable", "immutable")))
    with made.new_file("small") as file:
        file.write(body[:20])
    run.log_artifact(made, aliases=[f"slot{slot}"])
    os.remove(f"{slot}.txt")
    print(n, flush=True)
"""
)


class Slot:
    """A place for programs, one after the other; each is killed but the last."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage = stage
        self._number = number
        self._program: Program | None = None
        #: How many logs each of its programs was told of.
        self.told: list[int] = []

    @property
    def is_last(self) -> bool:
        """Whether the program that runs is not to be killed."""
        return len(self.told) == LIVES - 1

    @property
    def runs(self) -> bool:
        """Whether a program runs."""
        return self._program is not None and self._program.process.poll() is None

    def begin(self) -> None:
        """Start the next program."""
        argv = (self._number, len(self.told), LOGS)
        self._program = self._stage.start(_LOGS, *map(str, argv), *NAMES)

    def end(self, *, kill: bool) -> None:
        """Wait until its program has ended, or kill it; note what it was told."""
        assert self._program is not None
        if kill:
            self._program.process.kill()
        out, err = self._program.process.communicate(timeout=300)
        assert self._program.process.returncode in ((-9, 0) if kill else (0,)), err
        lines = out.splitlines()
        assert lines == [str(n) for n in range(len(lines))]
        self.told.append(len(lines))


@pytest.mark.soak
@pytest.mark.parametrize("store", ["home", "s3", *(["moto"] if SOAK else [])])
@pytest.mark.parametrize("seed", range(rounds(1, 12)))
def test_kills_lose_or_reorder_what_was_told(stages: Stages, store: str, seed: int) -> None:
    """What a program was told is logged is there, once, in order, with its bytes; what it was not told of
    is there once or not at all; nothing else is left behind.
    """
    stage = stages.make(store=store)
    slots = [Slot(stage, number) for number in range(SLOTS)]
    _run_with_kills(stage, slots, random.Random(seed))
    stage.machine.wait_all_done()
    stage.settle()
    _check(stage, slots)
    stage.check_clean(are_links_kept=False)  # programs remove what they had linked


def _run_with_kills(stage: Stage, slots: list[Slot], chance: random.Random) -> None:
    for slot in slots:
        slot.begin()
    wait_until(stage.kill_daemon)
    while any(slot.runs or not slot.is_last for slot in slots):
        time.sleep(chance.uniform(0.02, 0.4))
        # Seldom one that is still starting: on a busy machine none would ever serve.
        if chance.random() < 0.3 and (chance.random() < 0.2 or stage.machine.is_answered()):
            stage.kill_daemon()
        going = [slot for slot in slots if not slot.is_last]
        if going and chance.random() < 0.5:
            slot = chance.choice(going)
            slot.end(kill=True)
            slot.begin()
    for slot in slots:
        slot.end(kill=False)


def _check(stage: Stage, slots: list[Slot]) -> None:
    seen: dict[tuple[int, int], list[int]] = defaultdict(list)
    for name in NAMES:
        last: dict[int, tuple[int, int]] = {}
        for record in records(stage.objects, "p", name):
            slot, life, n = (record["metadata"][key] for key in ("slot", "life", "n"))
            seen[slot, life].append(n)
            _check_bytes(stage, record)
            if n < slots[slot].told[life]:
                assert last.get(slot, (-1, -1)) < (life, n), f"{name} {record['version']}"
                last[slot] = (life, n)
    # A request can fail that nobody was told of: the next program writes over its immutable file.
    assert done(stage.home) == sum(map(len, seen.values())), stage.log()
    for slot in slots:
        for life, told in enumerate(slot.told):
            logged = sorted(seen[slots.index(slot), life])
            assert logged in (list(range(told)), list(range(told + 1)))
    assert all(slot.told[-1] == LOGS for slot in slots)


def _check_bytes(stage: Stage, record: dict[str, Any]) -> None:
    start = "{slot} {life} {n} ".format(**record["metadata"]).encode()
    found = dict(files(stage.objects, "p", record))
    body = found["body"]
    assert body == start * (len(body) // len(start))
    assert found == {"body": body, "small": body[:20]}
