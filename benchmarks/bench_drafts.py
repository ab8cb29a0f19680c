"""How long it takes runs to make one version together: upserts by many processes at once, and the finish.

The server is a SeaweedFS that is started here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed

BUCKET = "bench"
_WRITERS, _ROUNDS = times(32, 3), times(5, 1)

WRITER = """
import sys, wherry
who, draft = sys.argv[1:3]
run = wherry.init(project="bench", group=draft)
part = wherry.Artifact("set", type="dataset")
part.add(wherry.Table(columns=["a", "b"], data=[[who, 1]]), f"parts/{who}")
print("ready", flush=True)
sys.stdin.readline()
run.upsert_artifact(part)
run.finish()
"""

FINISHER = """
import sys, wherry
run = wherry.init(project="bench", group=sys.argv[1])
whole = wherry.Artifact("set", type="dataset")
whole.add(wherry.data_types.PartitionedTable("parts"), "all")
print("ready", flush=True)
sys.stdin.readline()
assert run.finish_artifact(whole).wait(60).file_count == int(sys.argv[2]) + 1
"""


def main() -> None:
    """Measure and print."""
    figures = Figures("Drafts, on SeaweedFS")
    root = Path(os.environ["WHERRY_HOME"]).parent
    with tempfile.TemporaryDirectory(dir=root) as folder, Seaweed(Path(folder)) as server:
        server.make_bucket(BUCKET)
        os.environ |= server.credentials | {"WHERRY_STORE": server.address(BUCKET, "drafts")}
        _together("warm")
        measured = [_together(f"draft {n}") for n in range(_ROUNDS)]
    upserts, finishes = zip(*measured, strict=True)
    both = [upsert + finish for upsert, finish in measured]
    figures.add(f"{_WRITERS} writers upsert at once, until all are visible", median(upserts), "s")
    figures.add("the finish after them, until it is a version", median(finishes), "s")
    figures.add("both", median(both), "s", 2)
    figures.show()


def _together(draft: str) -> tuple[float, float]:
    """Seconds that the upserts take, and the finish."""
    writers = [_start(WRITER, f"w{n:02}", draft) for n in range(_WRITERS)]
    finisher = _start(FINISHER, draft, str(_WRITERS))
    upserts = _let_go(writers)
    return upserts, _let_go([finisher])


def _start(program: str, *args: str) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", program, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def _let_go(programs: list[subprocess.Popen[str]]) -> float:
    begun = time.perf_counter()
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        assert program.wait() == 0
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
