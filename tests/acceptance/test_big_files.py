"""Big files on bad days: what a kill costs is what was in the air."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import bucket, on_both
from tests.soak import SOAK
from tests.support.chaos import Chaos, Fault
from tests.support.machine import machine, wait_until
from tests.support.reading import files, records
from tests.support.servers import S3Server, Seaweed
from wherryd.stores.parts import PART_BYTES

#: The whole number in soak. moto, which copies a file several times when it is complete, gets less before.
_BIG_BYTES = (1 << 30) if SOAK else (320 << 20)
_BIG_BYTES_ON_MOTO = (1 << 30) if SOAK else (128 << 20)

LOG = """
import hashlib, os, sys, wherry
run = wherry.init(project="p")
a = wherry.Artifact("big", type="model")
digest = hashlib.sha256()
with a.new_file("big.bin", mode="wb") as f:
    for _ in range(int(sys.argv[1]) >> 20):
        digest.update(piece := os.urandom(1 << 20))
        f.write(piece)
run.log_artifact(a)
print(digest.hexdigest())
"""


@pytest.mark.soak
@on_both
def test_a_kill_costs_what_was_sent(tmp_path: Path, server: S3Server) -> None:
    """An upload that is killed at 30, 60 and 90 % goes on where it was: a tenth more is sent at most."""
    place = bucket(server)
    size = _BIG_BYTES if isinstance(server, Seaweed) else _BIG_BYTES_ON_MOTO
    with Chaos(server.port) as chaos:
        address = place.address.replace(str(server.port), str(chaos.port))
        env = place.env | {"WHERRY_FINISH": "detach"}
        with machine(tmp_path / "machine", address, env) as on:
            digest = on.run(LOG, str(size)).strip()
            for share in (0.3, 0.6, 0.9):
                wait_until(lambda share=share: chaos.body_bytes > share * size, 120)
                assert on.kill_daemon()
                wait_until(lambda: on.daemon_pid() is None)
                on.wherry("status")  # starts it again
            on.wait_all_done(300)
            sent = chaos.body_bytes
    (record,) = records(place.objects, "p", "big")
    ((_, body),) = files(place.objects, "p", record)
    assert len(body) == size
    assert server.parts(place.bucket, place.prefix) == 0
    # Up to four parts of 8 MiB are in the air at each kill; records are small.
    assert sent <= size + max(size // 10, 3 * 4 * PART_BYTES + (1 << 20))
    assert hashlib.sha256(body).hexdigest() == digest


@pytest.mark.xdist_group("seaweed")
def test_what_was_left_is_never_found(tmp_path: Path, seaweed: Seaweed) -> None:
    """``gc`` finds uploads that nobody goes on with, leaves alone what this home works on and what is not
    Wherry's, and removes them on request.
    """
    place = bucket(seaweed)
    blob = f"p/blobs/sha256/ab/ab{62 * '0'}"
    for key in (blob, "other/file"):
        seaweed.begin_upload(place.bucket, f"{place.prefix}/{key}", b"x" * (5 << 20))
    slow = {Fault.DELAY: 1.0}
    with Chaos(seaweed.port, slow, delay_s=3.0, wanted="partNumber=") as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        env = place.env | {"WHERRY_FINISH": "detach"}
        with machine(tmp_path / "machine", address, env) as on:
            assert json.loads(on.wherry("gc", "--uploads", "--json")) == []  # too young
            on.run(CANCELLED)
            wait_until(lambda: seaweed.parts(place.bucket, f"{place.prefix}/p") > 1, 60)
            found = json.loads(on.wherry("gc", "--uploads", "--older-than", "0s", "--json"))
            assert [each["key"] for each in found] == [blob]
            on.wherry("gc", "--uploads", "--older-than", "0s", "--remove")
            assert seaweed.parts(place.bucket, f"{place.prefix}/{blob}") == 0
            assert seaweed.parts(place.bucket, f"{place.prefix}/other") == 1
            on.wait_all_done(120)
    assert [record["version"] for record in records(place.objects, "p", "unwanted")] == [0]


@pytest.mark.xdist_group("seaweed")
def test_uploads_take_more_of_the_line_than_they_may(tmp_path: Path, seaweed: Seaweed) -> None:
    """``max_bandwidth`` holds for all uploads together, and may be changed while they run."""
    place = bucket(seaweed)
    with Chaos(seaweed.port) as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        env = place.env | {"WHERRY_FINISH": "detach"}
        with machine(tmp_path / "machine", address, env) as on:
            on.home.mkdir(mode=0o700)
            (on.home / "config.toml").write_text("max_bandwidth = '5 MB/s'\n")
            on.run(CANCELLED)
            on.run(CANCELLED.replace("unwanted", "other"))
            moments = []
            for reached in (8_000_000, 28_000_000):
                wait_until(lambda reached=reached: chaos.body_bytes > reached, 60, 0.005)
                moments.append((time.monotonic(), chaos.body_bytes))
            (begin, before), (end, after) = moments
            assert 0.9 < (after - before) / (end - begin) / 5_000_000 < 1.1
            (on.home / "config.toml").write_text("max_bandwidth = '500 MB/s'\n")
            on.wait_all_done(60)
            assert (chaos.body_bytes - after) / (time.monotonic() - end) > 10_000_000
    assert [record["version"] for record in records(place.objects, "p", "other")] == [0]


@pytest.mark.xdist_group("seaweed")
def test_nobody_knows_when_a_big_file_has_arrived(tmp_path: Path, seaweed: Seaweed) -> None:
    """While it is on its way status says how long until the spool is empty: what is left, by the speed."""
    place = bucket(seaweed)
    with machine(
        tmp_path / "machine", place.address, place.env | {"WHERRY_FINISH": "detach"}
    ) as on:
        on.home.mkdir(mode=0o700)
        (on.home / "config.toml").write_text("max_bandwidth = '1 MB/s'\n")
        on.run(LOG, str(24 << 20))

        def is_right() -> bool:
            """Past the middle: all of the file lies in the spool until the end, and is not what is left."""
            found = json.loads(on.wherry("status", "--json"))
            request = found["requests"][0]  # until it has arrived
            left_s = (request["size"] - request["bytes_done"]) / 1_000_000
            said_s = found["spool"]["seconds_left"]
            is_past = request["bytes_done"] > 0.6 * request["size"]
            return is_past and left_s / 2 < said_s < left_s * 2

        told = r"At [\d.]+ (KiB|MiB)/s what can be sent is gone in about \d+ s\."
        wait_until(lambda: re.search(told, on.wherry("status")), 60, 0.5)
        wait_until(is_right, 60, 0.5)
        on.wherry("cancel", "--all")


CANCELLED = """
import os, sys, wherry
run = wherry.init(project="p")
a = wherry.Artifact("unwanted", type="model")
with a.new_file("big.bin", mode="wb") as f:
    f.write(os.urandom(64 << 20))
run.log_artifact(a)
"""


@pytest.mark.xdist_group("seaweed")
def test_a_cancelled_upload_leaves_parts(tmp_path: Path, seaweed: Seaweed) -> None:
    """What was sent of a request that is not wanted any more does not stay in the bucket."""
    place = bucket(seaweed)
    slow = {Fault.DELAY: 1.0}
    with Chaos(seaweed.port, slow, delay_s=3.0, wanted="partNumber=") as chaos:
        address = place.address.replace(str(seaweed.port), str(chaos.port))
        env = place.env | {"WHERRY_FINISH": "detach"}
        with machine(tmp_path / "machine", address, env) as on:
            on.run(CANCELLED)
            wait_until(lambda: seaweed.parts(place.bucket, place.prefix) > 0, 60)
            on.wherry("cancel", "--all")
            wait_until(lambda: seaweed.parts(place.bucket, place.prefix) == 0, 30)
