"""The daemon's rounds: when it is idle, and what does not keep it from the next round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import msgspec
import pytest

from tests.unit.daemon.bench import Bench
from wherry.errors import DaemonNotStarted
from wherryd.capture.freeing import Freer
from wherryd.capture.sessions import Sweeper
from wherryd.config import Config, read_config
from wherryd.life import Life
from wherryd.model import Lane
from wherryd.rpc.server import Server
from wherryd.upkeep import Upkeep

_IDLE_S = 4.0


class Gate:
    """Where the rounds stand still, once, until the test lets them go on."""

    def __init__(self) -> None:
        self.come = anyio.Event()
        self._go = anyio.Event()

    async def __call__(self) -> None:
        self.come.set()
        await self._go.wait()

    async def open(self, parts: Parts) -> None:
        """Let them go on, for some rounds more."""
        self._go.set()
        rounds = parts.rounds
        await parts.make_rounds(lambda: parts.life.is_leaving or parts.rounds > rounds + 2)


class Parts:
    """The daemon's rounds with parts that do nothing, until a test says what."""

    def __init__(self, bench: Bench, config: Config) -> None:
        self.bench = bench
        self.life = Life(bench.clock, bench.news)
        self.in_sweep: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint
        self.in_bind: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint
        self.sweeps = self.rounds = 0
        freer = Freer(str(bench.spool), str(bench.manifests), bench.queue, bench.news, bench.clock)
        self.upkeep = Upkeep(
            config,
            lambda: True,
            bench.queue,
            cast(Sweeper, self),
            freer,
            cast(Server, self),
            self.life,
            bench.clock,
        )

    async def sweep(self) -> bool:
        """Sweep sessions."""
        self.sweeps += 1
        await self.in_sweep()
        return False

    async def bind_if_gone(self) -> None:
        """Look at the socket."""
        self.rounds += 1
        await self.in_bind()

    async def make_rounds(self, until: Callable[[], bool]) -> None:
        """Let time pass."""
        with anyio.fail_after(10):
            while not until():
                self.bench.clock.advance(1)
                await anyio.sleep(0.001)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The settings of a daemon that does not stay."""
    return msgspec.structs.replace(read_config(tmp_path / "home", {}), idle_timeout_s=_IDLE_S)


@pytest.fixture
async def parts(bench: Bench, config: Config) -> Parts:
    """Give parts whose rounds are being made."""
    parts = Parts(bench, config)
    bench.start(parts.upkeep.run())
    return parts


async def test_idle_daemon_stays_for_ever(parts: Parts) -> None:
    """With nothing to do and no call for a while the daemon leaves."""
    await parts.make_rounds(lambda: parts.life.is_leaving)
    assert "idle" in parts.life.why


async def test_daemon_leaves_in_the_middle_of_work(parts: Parts) -> None:
    """What is logged while the daemon finds out that it is idle keeps it."""
    await parts.make_rounds(lambda: parts.sweeps > 0)  # the first is not for the idle end
    parts.in_sweep = gate = Gate()
    await parts.make_rounds(gate.come.is_set)
    with parts.life.call():
        await parts.bench.log({"a": b"abc"})
    await parts.make_rounds(lambda: parts.life.quiet_s > _IDLE_S)
    await gate.open(parts)
    assert not parts.life.is_leaving


async def test_call_in_the_last_look_is_missed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that comes and ends while the queue is looked at makes the daemon busy again."""
    gate, lanes, swept = Gate(), parts.bench.queue.lanes, parts.sweeps

    async def look() -> list[Lane]:
        found = await lanes()
        if parts.sweeps > swept + 1:
            await gate()
        return found

    monkeypatch.setattr(parts.bench.queue, "lanes", look)
    await parts.make_rounds(gate.come.is_set)
    with parts.life.call():
        await parts.bench.log({"a": b"abc"})
    await gate.open(parts)
    assert not parts.life.is_leaving


@pytest.mark.parametrize("error", [OSError("no room"), DaemonNotStarted("no folder")])
async def test_socket_that_can_not_be_made_ends_the_rounds(parts: Parts, error: Exception) -> None:
    """A socket that can't be made now is tried again in the next round, and holds nothing else up."""

    async def refuse() -> None:
        raise error

    parts.in_bind = refuse
    with parts.life.call():
        await parts.make_rounds(lambda: parts.rounds > 1)
    await parts.make_rounds(lambda: parts.life.is_leaving)
    assert "idle" in parts.life.why
