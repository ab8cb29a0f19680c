"""Servers that are down, or have too much to do: left alone, and nothing waits longer than it must."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import bucket
from tests.support.chaos import Chaos, Fault
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import records
from tests.support.servers import Seaweed

pytestmark = pytest.mark.xdist_group("seaweed")

LOG = """
import sys, wherry
run = wherry.init(project="p")
each, names = int(sys.argv[1]), sys.argv[2:]
for i in range(each):
    for name in names:
        a = wherry.Artifact(name, type="model", metadata={"i": i})
        with a.new_file("x") as f:
            f.write(f"{name} {i}")
        run.log_artifact(a)
"""


def _waiting(on: Machine) -> list[dict[str, Any]]:
    found = json.loads(on.wherry("status", "--json"))["requests"]
    assert isinstance(found, list)
    return found


def test_a_dead_server_is_hammered(tmp_path: Path, seaweed: Seaweed) -> None:
    """Many artifacts wait for one that is down: it gets a request now and then; once it is up, all go on."""
    place, names = bucket(seaweed), [f"name-{n}" for n in range(20)]
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "m", address, place.env | {"WHERRY_FINISH": "detach"}) as on:
            on.run(LOG, "1", *names)
            on.wait_all_done()
            chaos.odds = {Fault.RESET: 1.0}
            on.run(LOG, "2", *names)

            def is_told() -> bool:
                return any("is down" in (each["reason"] or "") for each in _waiting(on))

            wait_until(is_told, 60, 0.5)
            before, began = len(chaos.asked), time.monotonic()
            time.sleep(10)
            # Pauses double, each is random: a few in ten seconds, whatever waits.
            assert len(chaos.asked) - before <= 12
            told = [each for each in _waiting(on) if "is down" in (each["reason"] or "")]
            assert told
            assert all(each["error"] == "StoreUnavailable" for each in told)
            assert all(each["next_try"] for each in told)
            chaos.odds = {}
            on.wherry("retry", "--all", check=False)
            on.wait_all_done(60)
            assert time.monotonic() - began < 60
        for name in names:
            found = records(place.objects, "p", name)
            assert [record["metadata"]["i"] for record in found] == [0, 1]


def test_all_wait_for_their_own_pauses(tmp_path: Path, seaweed: Seaweed) -> None:
    """Nobody says a word: the one that asks finds the server up, and that wakes all others."""
    place, names = bucket(seaweed), [f"name-{n}" for n in range(20)]
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "m", address, place.env | {"WHERRY_FINISH": "detach"}) as on:
            chaos.odds = {Fault.RESET: 1.0}
            on.run(LOG, "2", *names)
            wait_until(
                lambda: any("is down" in (each["reason"] or "") for each in _waiting(on)), 60, 0.5
            )
            chaos.odds = {}
            on.wait_all_done(90)
        for name in names:
            assert len(records(place.objects, "p", name)) == 2


_BUSY = r"The store has too much to do\. PUT p/\S+: "
_REFUSED = r"refuses PUT p/\S+: the key wher… of a client: "
TOLD = {
    Fault.BUSY: ("StoreUnavailable", _BUSY + r"503 SlowDown Please reduce your request rate\. "),
    Fault.TOO_OFTEN: ("StoreUnavailable", _BUSY + r"429 TooManyRequests Too many requests\. "),
    Fault.EXPIRED: ("AccessRefused", _REFUSED + "400 ExpiredToken The provided token has expired;"),
}


@pytest.mark.parametrize("fault", TOLD)
def test_status_is_silent_about_a_trouble(tmp_path: Path, seaweed: Seaweed, fault: Fault) -> None:
    """What a server says that has enough, or takes keys no more, is told as a sentence, with the next try."""
    place, (error, told) = bucket(seaweed), TOLD[fault]
    with Chaos(seaweed.port, wanted="PUT ") as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "m", address, place.env | {"WHERRY_FINISH": "detach"}) as on:
            on.run(LOG, "1", "before")
            on.wait_all_done()
            chaos.odds = {fault: 1.0}
            on.run(LOG, "1", "model")  # of two, so many would fail in a row that the server is down
            wait_until(lambda: [each["error"] for each in _waiting(on)] == [error], 60, 0.5)
            assert all(each["next_try"] for each in _waiting(on))
            said = on.wherry("status")
            assert re.search(told, said), said
            assert re.search(r"Next try (now|in \d+ s)\. ", said), said
            chaos.odds = {}
            on.wherry("retry", "--all", check=False)
            on.wait_all_done()
        assert len(records(place.objects, "p", "model")) == 1


def test_a_busy_server_gets_ever_more(tmp_path: Path, seaweed: Seaweed) -> None:
    """It says SlowDown when more than two come at once: soon no more do, and everything arrives."""
    place, names = bucket(seaweed), [f"name-{n}" for n in range(10)]
    with Chaos(seaweed.port, most=2) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "m", address, place.env | {"WHERRY_FINISH": "detach"}) as on:
            on.run(LOG, "2", *names)
            on.wait_all_done(110)
        assert chaos.met[Fault.BUSY]
        assert chaos.met[Fault.BUSY] < len(chaos.asked) / 4
        for name in names:
            assert len(records(place.objects, "p", name)) == 2


def test_one_name_that_fails_for_ever_holds_up_others(tmp_path: Path, seaweed: Seaweed) -> None:
    """The server refuses all that has to do with one name: the others arrive meanwhile."""
    place, names = bucket(seaweed), [f"name-{n}" for n in range(5)]
    with Chaos(seaweed.port, {Fault.BUSY: 1.0}, wanted="/artifacts/bad/") as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        with machine(tmp_path / "m", address, place.env | {"WHERRY_FINISH": "detach"}) as on:
            on.run(LOG, "10", "bad", *names)
            wait_until(lambda: {each["name"] for each in _waiting(on)} == {"bad"}, 120, 0.5)
            assert chaos.met[Fault.BUSY]
            for name in names:
                assert len(records(place.objects, "p", name)) == 10
            chaos.odds = {}
            on.wait_all_done(120)
        assert len(records(place.objects, "p", "bad")) == 10
