"""`make demo`, where somebody has settings of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_DEMO = Path(__file__).resolve().parents[2] / "examples/demo.py"


def test_demonstration_touches_the_users_store(tmp_path: Path, home: Path) -> None:
    """The demonstration keeps to its own folder, whatever is set, and names the place it wrote to."""
    kept = home.parent / "d"  # short, as paths of sockets must be
    own = tmp_path / "own"
    settings = {"WHERRY_STORE": f"file://{own}", "WHERRY_MODE": "offline", "WHERRY_PROJECT": "p"}
    done = subprocess.run(
        [sys.executable, str(_DEMO), str(kept)],
        env={**os.environ, **settings, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = re.findall(r"They lie in (\S+);", done.stdout)
    assert Path(told, "demo/artifacts/resnet/versions/v00000007.json").exists()
    assert not own.exists()
