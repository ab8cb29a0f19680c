"""What a small PUT to S3 costs in CPU: ours, signed and sent directly, beside aiobotocore's ``put_object``.

The server is a SeaweedFS that is started here; its own CPU is not in the figures.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed

BUCKET = "bench"
_BODY_BYTES = 4096
_PUTS = times(500, 5)
_ROUNDS = times(5, 2)

Put = Callable[[str, bytes], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder, Seaweed(Path(folder)) as server:
        server.make_bucket(BUCKET)
        asyncio.run(_compare(server))


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


def _tell(ours: list[float], theirs: list[float]) -> None:
    figures = Figures(f"S3: PUTs of {_BODY_BYTES} bytes, one after the other, to SeaweedFS")
    figures.add(f"CPU of a PUT, median of {_ROUNDS} × {_PUTS}", median(ours), "ms", 0.4)
    figures.add("CPU of aiobotocore's put_object, likewise", median(theirs), "ms")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    figures.add("ours ÷ aiobotocore's (paired)", median(ratios), "×")
    figures.show()
