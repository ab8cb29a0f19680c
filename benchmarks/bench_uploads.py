"""From ``log_artifact`` to committed on S3, beside the programs that people upload with, near and far.

Ours is the daemon's whole work, hashing and the commit included, and that of the program that logs;
theirs the whole program. Each round's bytes are new, so that nothing is known of them. The server's CPU is in
no figure, but takes from what is left for all alike.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import wherry
from benchmarks.network import Far
from benchmarks.peers import Cost, Peer, Race, peak_of, race
from benchmarks.resting import cpu_s
from benchmarks.table import Figures, times
from tests.support.servers import Seaweed
from wherry.wire import places

BUCKET = "bench"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
FILES = Path("files")
_ROUNDS = times(3, 1)
#: The way to a server that is far.
_ROUND_TRIP_S, _CUT = 0.05, 0.01


class Load:
    """Files to upload: how many, and how big."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __str__(self) -> str:
        big = self.size >= MIB
        amount = f"{self.size // MIB} MiB" if big else f"{self.size // KIB} KiB"
        return f"{self.count:,} × {amount}"

    @property
    def gib(self) -> float:
        """The size of them all."""
        return self.count * self.size / GIB

    def make(self) -> None:
        """New files, in the page cache and on the disk."""
        shutil.rmtree(FILES, ignore_errors=True)
        FILES.mkdir()
        for number in range(self.count):
            with (FILES / f"{number:06d}.bin").open("wb") as file:
                for begin in range(0, self.size, MIB):
                    file.write(os.urandom(min(MIB, self.size - begin)))
        os.sync()


_SMALL = Load(times(10_000, 10), 4 * KIB)
_BIG = Load(1, times(2048, 20) * MIB)
_MANY = Load(times(100, 2), times(64, 17) * MIB)


def main() -> None:
    """Measure and print; BENCHMARKS_ONLY may name which: small, big, many, far."""
    wanted = set(os.environ.get("BENCHMARKS_ONLY", "small big many far").split())
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder:
        os.chdir(folder)
        with Seaweed(Path(folder, "server")) as server:
            server.make_bucket(BUCKET)
            os.environ.update(server.credentials)
            figures = Figures("Uploads to S3 (SeaweedFS), committed, beside others")
            _near(figures, server, wanted)
            figures.show()
            if "far" in wanted:
                with Far(server.port, _ROUND_TRIP_S, _CUT) as far:
                    figures = Figures(
                        "The same, 50 ms of round trip away, 1 % of exchanges cut off"
                    )
                    _far(figures, server, f"http://127.0.0.1:{far.port}")
                    figures.show()


def _near(figures: Figures, server: Seaweed, wanted: set[str]) -> None:
    with Ours(server.endpoint) as ours:
        if "small" in wanted:
            found = _race(ours, server, _SMALL)
            found.show(figures, f"{_SMALL}", 0.2, _SMALL.gib)
        if "big" in wanted:
            found = _race(ours, server, _BIG)
            found.show(figures, f"{_BIG}", 1.1, _BIG.gib)
            figures.add("its CPU ÷ s5cmd's", found.cpu_ratio("s5cmd"), "×", 0.6)
            most = max(cost.peak_mib for cost in found.ours)
            figures.add("the daemon's peak of memory", most, "MiB", 200)
            _BIG.make()
            first, again = ours.log(), ours.log()
            figures.add(
                "the same bytes again ÷ the first time", again.time_s / first.time_s, "×", 0.1
            )
        if "many" in wanted:
            found = _race(ours, server, _MANY)
            found.show(figures, f"{_MANY}", 1.1, _MANY.gib)


def _far(figures: Figures, server: Seaweed, endpoint: str) -> None:
    with Ours(endpoint) as ours:
        for load in (_SMALL, _BIG, _MANY):
            found = _race(ours, server, load, endpoint)
            found.show(figures, f"{load}", 1.0, load.gib)


def _race(ours: Ours, server: Seaweed, load: Load, endpoint: str = "") -> Race:
    def mine() -> Cost:
        load.make()
        return ours.log()

    def theirs(peer: Peer) -> Cost:
        load.make()
        return peer.upload(server, endpoint or server.endpoint, BUCKET, FILES)

    return race(mine, theirs, _ROUNDS)


class Ours:
    """A run whose store is an endpoint, and the costs of it and of the daemon."""

    def __init__(self, endpoint: str) -> None:
        store = f"s3://{BUCKET}/ours?endpoint_url={endpoint}&region=us-east-1"
        self._run = wherry.init(project="bench", settings={"store": store})

    def __enter__(self) -> Self:
        Load(1, KIB).make()
        self.log()  # the daemon's start, and first contact
        return self

    def __exit__(self, *_: object) -> None:
        self._run.finish()

    def log(self) -> Cost:
        """Log what lies in the folder, and wait until it is committed."""

        def log() -> None:
            artifact = wherry.Artifact("files", type="t", metadata={"at": time.time_ns()})
            artifact.add_dir(str(FILES), policy="immutable" if _biggest() >= MIB else "mutable")
            self._run.log_artifact(artifact).wait()

        return self._cost_of(log)

    def download(self, target: Path) -> Cost:
        """Download what was logged last."""
        return self._cost_of(lambda: self._run.use_artifact("files:latest").download(target))

    def empty_cache(self) -> None:
        """Let the daemon have nothing of what it was asked for."""
        subprocess.run(
            [sys.executable, "-m", "wherry.cli", "cache", "cleanup", "0"],
            check=True,
            capture_output=True,
        )

    def _cost_of(self, work: Callable[[], object]) -> Cost:
        if pid := _daemon():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak of memory begins anew
        before, begin = self._cpu_s(), time.perf_counter()
        work()
        took = time.perf_counter() - begin
        return Cost(took, self._cpu_s() - before, peak_of(_daemon() or os.getpid()))

    def _cpu_s(self) -> float:
        """Of the daemon and of this program."""
        pid = _daemon()
        mine = time.process_time()
        if not pid:
            return mine
        return mine + cpu_s(pid)


def _biggest() -> int:
    return max(file.stat().st_size for file in FILES.iterdir())


def _daemon() -> int | None:
    lock = Path(os.environ["WHERRY_HOME"], places.INSTANCE_LOCK)
    return int(lock.read_text().split()[0]) if lock.is_file() else None
