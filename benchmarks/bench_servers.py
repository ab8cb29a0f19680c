"""What one name that fails for ever costs the others: they share the server, its limit and the daemon."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import wherry
from benchmarks.table import Figures, paired, times
from tests.support.chaos import Chaos, Fault
from tests.support.servers import Seaweed

BUCKET = "bench"
_NAMES, _LOGS = times(8, 2), times(40, 2)
_ROUNDS = times(3, 1)


def main() -> None:
    """Measure and print."""
    root = Path(os.environ["WHERRY_HOME"]).parent
    os.environ["WHERRY_FINISH"] = "detach"
    figures = Figures("A server that refuses one name (SeaweedFS behind a proxy)")
    with (
        tempfile.TemporaryDirectory(dir=root) as folder,
        Seaweed(Path(folder)) as server,
        Chaos(server.port, wanted="/artifacts/bad-") as chaos,
    ):
        server.make_bucket(BUCKET)
        os.environ.update(server.credentials)
        address = server.address(BUCKET, "ours").replace(str(server.port), str(chaos.port))
        with wherry.init(project="bench", settings={"store": address}) as run:
            _log(run, "warm", 1).wait()

            def others(*, beside: bool) -> float:
                """Seconds until all but the failing name's are committed."""
                chaos.odds = {Fault.BUSY: 1.0} if beside else {}
                stamp = time.monotonic_ns()
                begin = time.perf_counter()
                if beside:
                    _log(run, f"bad-{stamp}", _LOGS)
                last = [_log(run, f"good-{stamp}-{n}", _LOGS) for n in range(_NAMES)]
                for artifact in last:
                    artifact.wait()
                took = time.perf_counter() - begin
                chaos.odds = {}
                return took

            others(beside=False)
            ratio = paired(lambda: others(beside=True), lambda: others(beside=False), _ROUNDS)
    figures.add(f"{_NAMES} other names ÷ without it", ratio, "×", 1.2)
    figures.show()


def _log(run: wherry.Run, name: str, logs: int) -> wherry.Artifact:
    """Log so often under one name; the last artifact."""
    return [_log_one(run, name, i) for i in range(logs)][-1]


def _log_one(run: wherry.Run, name: str, number: int) -> wherry.Artifact:
    artifact = wherry.Artifact(name, type="t", metadata={"i": number})
    with artifact.new_file("x") as file:
        file.write(f"{name} {number}")
    return run.log_artifact(artifact)
