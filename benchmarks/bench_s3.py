"""What a small PUT to S3 costs in CPU: ours, signed and sent directly, beside aiobotocore's ``put_object``;
and all that the daemon does for small artifacts, from the request to the committed version, by its PUTs.

The server is a SeaweedFS that is started here; its own CPU is not in the figures.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import wherry
from benchmarks.resting import cpu_s, daemon_pid, wait_rest
from benchmarks.table import Figures, median, times
from tests.support.chaos import Chaos
from tests.support.servers import Seaweed

BUCKET = "bench"
_BODY_BYTES = 4096
_PUTS = times(500, 5)
_ROUNDS = times(5, 2)
_NAMES, _LOGS = 4, times(400, 8)

Put = Callable[[str, bytes], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder, Seaweed(Path(folder)) as server:
        server.make_bucket(BUCKET)
        asyncio.run(_compare(server))
        with Chaos(server.port) as counting:
            _tell_whole(*_log_small(server, counting))


async def _compare(server: Seaweed) -> None:
    from aiobotocore.session import get_session

    from wherryd.clock import SystemClock
    from wherryd.stores.credentials import StoreCredentials
    from wherryd.stores.s3.store import S3Store

    credentials = StoreCredentials()
    credentials.hand_over(server.credentials)
    store = S3Store(server.address(BUCKET, "ours"), credentials, SystemClock())
    client = get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    async with client as theirs:

        async def put_theirs(key: str, body: bytes) -> None:
            await theirs.put_object(
                Bucket=BUCKET, Key=f"theirs/{key}", Body=body, ChecksumAlgorithm="SHA256"
            )

        try:
            _tell(*await _in_turn(store.put, put_theirs))
        finally:
            await store.aclose()


async def _in_turn(ours: Put, theirs: Put) -> tuple[list[float], list[float]]:
    """CPU per PUT in ms, measured in turn, so that a noisy machine hits both alike."""
    await _cpu_ms(ours, "warm")
    await _cpu_ms(theirs, "warm")
    costs: tuple[list[float], list[float]] = ([], [])
    for turn in range(_ROUNDS):
        costs[0].append(await _cpu_ms(ours, str(turn)))
        costs[1].append(await _cpu_ms(theirs, str(turn)))
    return costs


async def _cpu_ms(put: Put, folder: str) -> float:
    body = os.urandom(_BODY_BYTES)
    begin = time.process_time()
    for number in range(_PUTS):
        await put(f"{folder}/{number}", body)
    return (time.process_time() - begin) / _PUTS * 1000


def _log_small(server: Seaweed, counting: Chaos) -> tuple[float, int]:
    """Seconds of the daemon's CPU until all is committed, and the PUTs that it took."""
    address = server.address(BUCKET, "small").replace(str(server.port), str(counting.port))
    os.environ.update(server.credentials)
    with wherry.init(project="bench", settings={"store": address}) as run:
        for name in range(_NAMES):
            _log(run, name).wait()  # first contact
        wait_rest()
        before, asked = cpu_s(daemon_pid()), len(counting.asked)
        last = [_log(run, number % _NAMES) for number in range(_LOGS)][-_NAMES:]
        for artifact in last:
            artifact.wait()
        cost = cpu_s(daemon_pid()) - before
        puts = [line for line in counting.asked[asked:] if line.startswith("PUT ")]
    return cost, len(puts)


def _log(run: wherry.Run, name: int) -> wherry.Artifact:
    artifact = wherry.Artifact(f"small-{name}", type="t")
    with artifact.new_file("x", mode="wb") as file:
        file.write(os.urandom(_BODY_BYTES))
    return run.log_artifact(artifact)


def _tell_whole(cpu: float, puts: int) -> None:
    figures = Figures(f"S3: {_LOGS} artifacts of {_BODY_BYTES} bytes, {_NAMES} names, committed")
    figures.add("CPU of the daemon for each PUT, all of it counted", cpu / puts * 1000, "ms", 0.6)
    figures.add("CPU of the daemon for each artifact", cpu / _LOGS * 1000, "ms")
    figures.add("PUTs for each artifact", puts / _LOGS, "")
    figures.show()


def _tell(ours: list[float], theirs: list[float]) -> None:
    figures = Figures(f"S3: PUTs of {_BODY_BYTES} bytes, one after the other, to SeaweedFS")
    figures.add(f"CPU of a PUT, median of {_ROUNDS} × {_PUTS}", median(ours), "ms", 0.4)
    figures.add("CPU of aiobotocore's put_object, likewise", median(theirs), "ms")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    figures.add("ours ÷ aiobotocore's (paired)", median(ratios), "×")
    figures.show()
