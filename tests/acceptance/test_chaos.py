"""A network that does its worst, between a real daemon and a real S3 server: everything arrives, once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from tests.acceptance.conftest import Place, bucket, gcs_bucket, on_both, on_both_in_soak
from tests.soak import SOAK
from tests.support.chaos import Chaos, Fault
from tests.support.google import Google, GoogleObjects
from tests.support.machine import machine, wait_until
from tests.support.queue import taken
from tests.support.reading import files, records
from tests.support.servers import FakeGcs, S3Server, Seaweed

#: The whole number in soak. Of one fault by itself a few have to be met; of all together there are enough.
_COUNT = 200 if SOAK else 20
_COUNT_OF_ALL = 200 if SOAK else 10
_NAMES = 4
_BUCKETS = count()

LOG = """
import hashlib, json, os, sys, wherry
run = wherry.init(project="p")
count, names = int(sys.argv[1]), int(sys.argv[2])
told = []
for i in range(count):
    # Mostly small, some that go alone, one in forty in parts.
    size = 20_000_000 if i % 40 == 7 else 1_500_000 if i % 10 == 3 else 10 + 997 * i
    body = os.urandom(size)
    a = wherry.Artifact(f"model-{i % names}", type="model", metadata={"i": i})
    with a.new_file("big.bin", mode="wb") as f:
        f.write(body)
    for n in range(i % 3):
        with a.new_file(f"small/{n}") as f:
            f.write(f"{i} {n}")
    run.log_artifact(a, aliases=["best"])
    told.append(hashlib.sha256(body).hexdigest())
print(json.dumps(told))
"""

ALONE = {
    Fault.DELAY: 0.6,
    Fault.CUT: 0.1,
    Fault.RESET: 0.1,
    Fault.BUSY: 0.08,
    Fault.LOST: 0.1,
    Fault.TRUNCATED: 0.1,
    Fault.TWICE: 0.3,
}
#: More of them lengthen a history by far: what takes six requests has to find all of them answered.
TOGETHER = dict.fromkeys(ALONE, 0.04 if SOAK else 0.03)
if SOAK:  # each costs half a minute of silence: in ``make test`` it has a test of its own
    ALONE |= {Fault.BLACKHOLE: 0.01}
    TOGETHER |= {Fault.BLACKHOLE: 0.002}


def _check(tmp_path: Path, server: S3Server, chaos: Chaos, count: int = _COUNT) -> None:
    """Log through the bad network; then all is there, once, in order, byte for byte, and nothing else."""
    place = bucket(server)
    address = place.address.replace(str(server.port), str(chaos.port))
    _check_place(tmp_path, place, address, count)
    assert server.parts(place.bucket, place.prefix) == 0


def _check_place(tmp_path: Path, place: Place, address: str, count: int) -> None:
    env = place.env | {"WHERRY_FINISH": "detach"}
    with machine(tmp_path / "machine", address, env) as on:
        digests = json.loads(on.run(LOG, str(count), str(_NAMES)))
        on.wait_all_done(1800 if SOAK else 300)
        assert taken(on.home) == count
    for n in range(_NAMES):
        found = records(place.objects, "p", f"model-{n}")
        assert [record["version"] for record in found] == list(range(len(found)))
        logged = [record["metadata"]["i"] for record in found]
        assert logged == list(range(n, count, _NAMES))
        for i, record in zip(logged, found, strict=True):
            there = dict(files(place.objects, "p", record))
            assert hashlib.sha256(there.pop("big.bin")).hexdigest() == digests[i]
            assert there == {f"small/{k}": b"%d %d" % (i, k) for k in range(i % 3)}


@pytest.mark.soak
@on_both_in_soak
@pytest.mark.parametrize("fault", ALONE)
def test_a_fault_loses_or_doubles_a_version(tmp_path: Path, server: S3Server, fault: Fault) -> None:
    """Each fault by itself, as often as a network that can hardly be used has it."""
    with Chaos(server.port, {fault: ALONE[fault]}) as chaos:
        _check(tmp_path, server, chaos)
        assert chaos.met[fault] >= 3


@pytest.mark.soak
@on_both
def test_all_faults_lose_or_double_a_version(tmp_path: Path, server: S3Server) -> None:
    """All of them, one in four or five requests."""
    with Chaos(server.port, TOGETHER) as chaos:
        _check(tmp_path, server, chaos, _COUNT_OF_ALL)
        assert len(chaos.met) >= (len(TOGETHER) if SOAK else 3)


ON_GOOGLE = [TOGETHER, *([{fault: odds} for fault, odds in ALONE.items()] if SOAK else [])]


@pytest.mark.soak
@pytest.mark.parametrize("odds", ON_GOOGLE)
def test_google_is_any_better(tmp_path: Path, google: Google, odds: dict[Fault, float]) -> None:
    """The same on a bucket of Google's kind, whose big files go in sessions: none with bytes is left open."""
    name = f"chaos-{os.getpid()}-{next(_BUCKETS)}"
    with Chaos(google.port, odds) as chaos:
        address = google.address(name, "p")
        place = Place(address, GoogleObjects(google, name, "p"), {})
        address = address.replace(str(google.port), str(chaos.port))
        _check_place(tmp_path, place, address, _COUNT_OF_ALL)
        _check_met(chaos, odds)
    sessions = [session for session in google.sessions.values() if session.bucket == name]
    assert not [session for session in sessions if session.body and not session.made]


@pytest.mark.soak
@pytest.mark.parametrize("odds", ON_GOOGLE)
def test_an_emulator_is_any_better(tmp_path: Path, gcs: FakeGcs, odds: dict[Fault, float]) -> None:
    """The same on fake-gcs-server, where a session begins anew after each fault."""
    place = gcs_bucket(gcs)
    with Chaos(gcs.port, odds) as chaos:
        address = place.address.replace(str(gcs.port), str(chaos.port))
        _check_place(tmp_path, place, address, _COUNT_OF_ALL)
        _check_met(chaos, odds)


def _check_met(chaos: Chaos, odds: dict[Fault, float]) -> None:
    assert set(chaos.met) == set(odds) if SOAK else len(chaos.met) >= 3
    assert any(line.startswith("PUT ") for line in chaos.asked)  # a session's


@pytest.mark.soak
@on_both
def test_a_commit_without_an_answer_is_made_twice(tmp_path: Path, server: S3Server) -> None:
    """The server has made the version, and its answer is lost, again and again: never a second one."""
    odds = {Fault.LOST: 0.3, Fault.TRUNCATED: 0.2, Fault.TWICE: 0.2}
    # That the answers which tell what became of it are lost too takes minutes.
    wanted = "/versions/v" if SOAK else "^PUT .*/versions/v"
    with Chaos(server.port, odds, wanted=wanted) as chaos:
        _check(tmp_path, server, chaos)
        made = [line for line in chaos.unanswered if line.startswith("PUT ")]
        assert len(made) >= (20 if SOAK else 3)


BIG_AND_SMALL = """
import hashlib, os, wherry
run = wherry.init(project="p")
body = os.urandom(24 << 20)
for name, content in (("big", body), ("small", b"x")):
    a = wherry.Artifact(name, type="model")
    with a.new_file("x", mode="wb") as f:
        f.write(content)
    run.log_artifact(a)
print(hashlib.sha256(body).hexdigest())
"""
#: One of three parts of the big one, and the first that is committed of the small one.
SILENT = "partNumber=2&|^PUT .*/artifacts/small/"


@pytest.mark.soak
@pytest.mark.xdist_group("seaweed")
def test_a_server_that_says_nothing_is_waited_for(tmp_path: Path, seaweed: Seaweed) -> None:
    """A connection on which nothing moves is given up, and the request, of a big file the part, made once
    more, and no other; meanwhile status says so.
    """
    place = bucket(seaweed)
    with Chaos(seaweed.port, {Fault.BLACKHOLE: 1.0}, wanted=SILENT) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        env = place.env | {"WHERRY_FINISH": "detach"}
        with machine(tmp_path / "machine", address, env) as on:
            digest = on.run(BIG_AND_SMALL).strip()

            def are_told() -> bool:
                found = json.loads(on.wherry("status", "--json"))["requests"]
                told = [each for each in found if "nothing came for 30 s" in (each["reason"] or "")]
                assert all(each["error"] == "StoreUnavailable" for each in told)
                assert all(each["next_try"] for each in told)
                return {each["name"] for each in told} == {"big", "small"}

            wait_until(are_told, 90, 0.5)
            said = on.wherry("status")
            told = r"No answer to PUT http\S+: nothing came for 30 s\. Next try (now|in \d+ s)\. "
            assert len(re.findall(told, said)) == 2, said
            chaos.odds = {}
            chaos.hang_up()
            on.wait_all_done(120)
            parts = Counter(
                re.findall(r"^PUT \S+partNumber=(\d)&", "\n".join(chaos.asked), re.MULTILINE)
            )
        (record,) = records(place.objects, "p", "big")
        ((_, body),) = files(place.objects, "p", record)
        assert hashlib.sha256(body).hexdigest() == digest
        assert parts.pop("2") > 1
        assert parts == {"1": 1, "3": 1}
        assert [record["version"] for record in records(place.objects, "p", "small")] == [0]
