"""Run the benchmarks in order, each in a process and a home of its own.

Usage: python -m benchmarks [--quick] [NAME...]; a name is part of a file's name: "log" for bench_log.py.
With --quick all numbers are small: it shows that the benchmarks work, and measures nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.yardstick import describe

_FOLDER = Path(__file__).parent
_CACHE = _FOLDER.parent / ".cache"


def main() -> int:
    """Run what the arguments name, or everything; return 1 if any of it failed."""
    wanted = [name for name in sys.argv[1:] if name != "--quick"]
    if "--quick" in sys.argv:
        os.environ["BENCHMARKS_QUICK"] = "1"
    names = sorted(path.stem for path in _FOLDER.glob("bench_*.py"))
    chosen = [name for name in names if not wanted or any(part in name for part in wanted)]
    if not chosen:
        print(f"No benchmark is called that. There are: {', '.join(names)}", file=sys.stderr)
        return 2
    _CACHE.mkdir(exist_ok=True)
    print(describe(_CACHE))
    failed = [name for name in chosen if not _run(name)]
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str) -> bool:
    print(f"\n=== {name}", flush=True)
    # Beside the code and not in /tmp, where many programs' files have been seen to make a new one cost
    # 0.4 ms instead of 0.015. A daemon that is left there ends when its home is gone.
    with tempfile.TemporaryDirectory(prefix="b-", dir=_CACHE, ignore_cleanup_errors=True) as home:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WHERRY_")},
            "WHERRY_HOME": f"{home}/home",
            "WHERRY_HOME_LASTS": "yes",
        }
        program = f"from benchmarks.{name} import main; main()"
        done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
