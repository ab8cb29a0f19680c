"""What references cost: asking many URLs at once, listing a bucket beside s5cmd, and the training's own time.

The servers are started here, and share the machine: their own work is in all figures, also in those that
ours are compared with.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed

if TYPE_CHECKING:
    from wherry import Run
    from wherryd.references.base import Resolver

URLS = times(1000, 10)
ONE_BY_ONE = times(40, 2)
ANSWER_S = 0.05
OBJECTS = times(10_000, 1_100)
BUCKET = "bench"
_ROUNDS = times(5, 1)
_LOGS = times(20, 2)
_IN_A_LOOP = times(50, 2)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    figures = Figures("References")
    asyncio.run(_urls(figures))
    with tempfile.TemporaryDirectory(dir=root) as folder, Seaweed(Path(folder)) as server:
        server.make_bucket(BUCKET)
        server.fill_folder(BUCKET, "many", OBJECTS)
        asyncio.run(_listing(figures, server))
        _calls(figures, server)
    figures.show()


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────
async def _urls(figures: Figures) -> None:
    from wherryd.clock import SystemClock
    from wherryd.references.asking import Asker
    from wherryd.references.http import HttpResolver
    from wherryd.references.session import Session

    async def last_place() -> int:
        return 0

    async with _slow_server() as url:
        clock = SystemClock()
        resolver = HttpResolver(clock, Session())
        asker = Asker(clock, last_place)
        await _ask(resolver, [f"{url}/warm"])
        begin = time.perf_counter()
        for number in range(ONE_BY_ONE):
            await _ask(resolver, [f"{url}/one/{number}"])
        one_by_one = (time.perf_counter() - begin) / ONE_BY_ONE * URLS
        begin = time.perf_counter()
        await _ask(resolver, [f"{url}/many/{number}" for number in range(URLS)], asker)
        at_once = time.perf_counter() - begin
        await resolver.aclose()
    what = f"{URLS:,} URLs at a server that takes {ANSWER_S * 1000:.0f} ms"
    figures.add(f"{what}, at once", at_once, "s")
    figures.add(f"one after another (of {ONE_BY_ONE})", one_by_one, "s")
    figures.add_least("one after another ÷ at once", one_by_one / at_once, "×", 30)


async def _ask(resolver: Resolver, uris: list[str], asker: object = None) -> None:
    from wherryd.references.asking import Asker
    from wherryd.references.base import Target

    if not isinstance(asker, Asker):
        for uri in uris:
            await resolver.look(Target(uri))
        return
    async with asyncio.TaskGroup() as tasks:
        for uri in uris:
            tasks.create_task(asker.look(resolver, Target(uri), 0))


@asynccontextmanager
async def _slow_server() -> AsyncIterator[str]:
    """A server in a process of its own, which answers after ``ANSWER_S``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from benchmarks.bench_references import serve; serve()",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


def serve() -> None:
    """Be the slow server; print its URL."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(ANSWER_S)
        return web.Response(body=b"some bytes", headers={"ETag": f'"{request.path}"'})

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


# ── a bucket ─────────────────────────────────────────────────────────────────────────────────────
async def _listing(figures: Figures, server: Seaweed) -> None:
    """Ours and s5cmd's in turn, so that a noisy machine hits both alike; each with its own start."""
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(await _ours(server))
        theirs.append(await asyncio.to_thread(_s5cmd, server))
    what = f"a prefix of {OBJECTS:,} objects on SeaweedFS"
    figures.add(f"{what}, median of {_ROUNDS}", median(ours), "s")
    figures.add("s5cmd ls of it, likewise", median(theirs), "s")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    figures.add("ours ÷ s5cmd's (paired)", median(ratios), "×", 1.5)


async def _ours(server: Seaweed) -> float:
    from wherryd.clock import SystemClock
    from wherryd.references.base import Target
    from wherryd.references.s3 import S3Resolver
    from wherryd.stores.credentials import CredentialSets

    begin = time.perf_counter()
    sets, target = CredentialSets(), Target(f"s3://{BUCKET}/many", server.address(BUCKET))
    sets.hand_over(target.server, server.credentials)
    resolver = S3Resolver(SystemClock(), sets)
    assert await resolver.look(target) is None
    after: str | None = ""
    count = 0
    while after is not None:
        page = await resolver.list(target, after)
        count, after = count + len(page.objects), page.after
    await resolver.aclose()
    assert count == OBJECTS, count
    return time.perf_counter() - begin


def _s5cmd(server: Seaweed) -> float:
    begin = time.perf_counter()
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("s5cmd")),
            "--endpoint-url",
            server.endpoint,
            "ls",
            f"s3://{BUCKET}/many/*",
        ],
        env={**os.environ, **server.credentials, "AWS_REGION": "us-east-1"},
        capture_output=True,
        check=True,
    )
    took = time.perf_counter() - begin
    assert done.stdout.count(b"\n") == OBJECTS
    return took


# ── the training ─────────────────────────────────────────────────────────────────────────────────
def _calls(figures: Figures, server: Seaweed) -> None:
    os.environ.update(server.credentials)
    os.environ.update({"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": "us-east-1"})
    import wherry

    with wherry.init(project="bench") as run:
        took = [_log(run, f"alone{number}", wait=True) for number in range(_LOGS)]
        loop = [_log(run, f"loop{number}", wait=False) for number in range(_IN_A_LOOP)]
    what = f"add_reference + log_artifact of {OBJECTS:,} objects, median of"
    figures.add(f"{what} {_LOGS}", median(took) * 1000, "ms", 5)
    figures.add(f"{what} {_IN_A_LOOP} back to back", median(loop) * 1000, "ms", 5)


def _log(run: Run, name: str, *, wait: bool) -> float:
    import wherry

    begin = time.perf_counter()
    artifact = wherry.Artifact(name, type="dataset")
    artifact.add_reference(f"s3://{BUCKET}/many")
    run.log_artifact(artifact)
    took = time.perf_counter() - begin
    if wait:
        artifact.wait()
    return took


if __name__ == "__main__":
    main()
