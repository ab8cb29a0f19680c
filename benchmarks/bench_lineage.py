"""How long a question about lineage takes among ten thousand versions, in a folder and on SeaweedFS."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import wherry
from benchmarks.table import Figures, times
from tests.support.servers import Seaweed
from wherryd.clock import SystemClock
from wherryd.model import RunInfo, RunRecord, VersionRecord
from wherryd.opened import OpenedStores
from wherryd.registry.base import Registry
from wherryd.registry.records import encode
from wherryd.stores.credentials import CredentialSets
from wherryd.stores.opening import make_folder, open_store
from wherryd.together import all_of

BUCKET = "bench"
_ARTIFACTS, _VERSIONS = times(20, 2), times(500, 10)
_DIGEST = "sha256:" + "a" * 64
_AT_ONCE = 50


def main() -> None:
    """Measure and print."""
    count = _ARTIFACTS * _VERSIONS
    figures = Figures(f"Lineage of one of {count:,} versions")
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder, Seaweed(Path(folder)) as server:
        server.make_bucket(BUCKET)
        os.environ |= server.credentials
        for where, address in {
            "a folder": f"file://{folder}/store",
            "SeaweedFS": server.address(BUCKET, "lineage"),
        }.items():
            asyncio.run(_fill(address))
            api = wherry.Api({"project": "bench", "store": address})
            ask = partial(api.lineage, f"set0:v{_VERSIONS - 1}")
            figures.add(f"{where}: the first question, which reads all", _seconds(ask), "s")
            look = partial(ask, fresh=True)
            figures.add(f"{where}: another one, which looks what is new", _seconds(look), "s")
            figures.add(f"{where}: one after that", _seconds(ask), "s", 1)
            assert len(ask().versions) == count
            figures.add(f"{where}: who used a version", _seconds(_users(api)), "s", 1)
            near = partial(api.lineage, "set0:v0", 1)
            figures.add(f"{where}: one run far", _seconds(near), "s", 1)
            known = len(near().runs)
            _use(address)
            near(fresh=True)
            _use(address)
            figures.add(f"{where}: one run far, after a run of one's own", _seconds(near), "s", 1)
            assert len(near().runs) == known + 2
    figures.show()


def _users(api: wherry.Api) -> Callable[[], object]:
    return lambda: api.artifact("set0:v3").used_by()


def _use(address: str) -> None:
    with wherry.init(project="bench", store=address) as run:
        run.use_artifact("set0:v0")


def _seconds(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


async def _fill(address: str) -> None:
    """Put records as if each version had been made of the one before it; all of one chain, a run each."""
    if address.startswith("file:"):
        await make_folder(address)
    credentials = CredentialSets()
    stores = OpenedStores(
        lambda each: asyncio.to_thread(open_store, each, credentials.source(each), SystemClock()),
        SystemClock(),
    )
    registry = await stores.registry(address)
    await registry.found("1" * 32)
    for artifact in range(_ARTIFACTS):
        await registry.claim_type("bench", f"set{artifact}", "set")
        for first in range(0, _VERSIONS, _AT_ONCE):
            chunk = range(first, min(first + _AT_ONCE, _VERSIONS))
            await all_of(*(partial(_put, registry, artifact, number) for number in chunk))
    await stores.aclose()


async def _put(registry: Registry, artifact: int, number: int) -> None:
    name, run = f"set{artifact}", RunInfo(f"run-{artifact}-{number}", job_type="train")
    before = (
        f"bench/{name}:v{number - 1}" if number else f"bench/set{artifact - 1}:v{_VERSIONS - 1}"
    )
    inputs = [before] if number or artifact else []
    record = VersionRecord(
        format=1,
        version=number,
        request=run.id,
        type="set",
        description=None,
        metadata={},
        entries=0,
        size=0,
        manifest=_DIGEST,
        digest=_DIGEST,
        content=_DIGEST,
        run=run,
        inputs=inputs,
        aliases=[],
        created=f"2026-11-23T14:00:00.{number:03}Z",
        client="wherry",
    )
    await registry.create_version("bench", name, number, encode(record))
    told = RunRecord(1, "bench", run, "2026-11-23T14:00:01.000Z", used=inputs)
    await registry.runs.put_record("bench", run.id, "5" * 32, number, encode(told))


if __name__ == "__main__":
    main()
