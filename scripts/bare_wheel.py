"""Try a wheel that was installed without extras; `scripts/check-wheel` runs this in such a place."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HEAVY = {"sqlite3", "aiohttp", "aiobotocore", "asyncio", "h2", "grpc", "google.protobuf"}
INSTALL_LINE = "pip install 'wherry[daemon]'"


def main() -> None:
    """Run every check; the first that fails ends the program."""
    assert find_spec("grpc") is None, "the daemon's packages are here: nothing would be shown"
    import_stays_light()
    generated_code_loads()
    command_names_the_install_line("wherry", "status")
    command_names_the_install_line("wherryd")
    logging_names_the_install_line()
    print(f"the bare wheel is fine with protobuf {version('protobuf')}")


def import_stays_light() -> None:
    """`import wherry` brings in none of the heavy modules."""
    import wherry  # noqa: F401 - the import is what is looked at

    loaded = HEAVY & sys.modules.keys()
    assert not loaded, f"import wherry brings in {loaded}"


def generated_code_loads() -> None:
    """The generated messages load, and survive the way through bytes."""
    from wherry.wire.wherry_pb2 import Entry, EntryBatch

    batch = EntryBatch(entries=[Entry(path="a", size=1)])
    assert EntryBatch.FromString(batch.SerializeToString()) == batch


def command_names_the_install_line(command: str, *arguments: str) -> None:
    """The command exits with 1 and says how to install what it lacks."""
    path = Path(sysconfig.get_path("scripts")) / command
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1, f"{command}: exit code {done.returncode}: {said}"
    assert INSTALL_LINE in said, f"{command} said: {said}"
    assert "Traceback" not in said, f"{command} said: {said}"


def logging_names_the_install_line() -> None:
    """A program that logs gets DaemonMissing, which says how to install the daemon."""
    import wherry
    from wherry.errors import DaemonMissing

    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"WHERRY_HOME": home, "PATH": "/usr/bin:/bin"}
        try:
            run = wherry.init(project="bare")
            run.log_artifact(wherry.Artifact("nothing", type="none"))
        except DaemonMissing as error:
            assert INSTALL_LINE in str(error), f"DaemonMissing says: {error}"
        else:
            raise AssertionError("logging without a daemon went on")


if __name__ == "__main__":
    main()
