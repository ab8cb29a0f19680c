"""Making the messages' code, where the Python at hand is too new for the compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[3] / "scripts/protos"

# An interpreter that is newer than the compiler's wheels …
_NEW_PYTHON = "#!/bin/sh\nexit 1\n"
# … and a uv that notes what it is asked for, and gets it only where a test lets it.
_UV = """#!/bin/sh
echo "$*" >> asked
[ "$1" = pip ] || [ -e can-fetch ] || exit 2
mkdir -p .cache/grpcio-tools-1.62.3/bin
printf '#!/bin/sh\\n' > .cache/grpcio-tools-1.62.3/bin/python
chmod +x .cache/grpcio-tools-1.62.3/bin/python
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Lay out a checkout whose Python is too new."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(_SCRIPT, tmp_path / "scripts")
    for name, text in {"python": _NEW_PYTHON, "uv": _UV}.items():
        program = tmp_path / ".venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    return tmp_path


def _run(copy: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [copy / "scripts/protos", *options],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_too_new_python_fails_every_commit(copy: Path) -> None:
    """Where uv can get no older Python, the check says that it is left out, and lets lint go on."""
    done = _run(copy, "--check")
    assert done.returncode == 0
    assert "needs a Python >=3.11,<3.13" in done.stderr and "LEFT OUT" in done.stderr


def test_check_is_left_out_in_ci(copy: Path) -> None:
    """In CI a check that can't be made is a failure."""
    done = _run(copy, "--check", CI="true")
    assert done.returncode == 1 and "LEFT OUT" not in done.stderr


def test_code_is_said_to_be_made(copy: Path) -> None:
    """Making the code can't be left out."""
    assert _run(copy).returncode == 1


def test_older_python_is_not_asked_for(copy: Path) -> None:
    """Under a Python that is too new uv is asked for one that is not, and then the check is made."""
    (copy / "can-fetch").touch()
    done = _run(copy, "--check")
    assert "--python >=3.11,<3.13 .cache" in (copy / "asked").read_text()
    assert "is not what the protos give" in done.stderr  # the compiler of this test makes nothing
