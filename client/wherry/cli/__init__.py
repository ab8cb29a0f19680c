"""The ``wherry`` command's door. Owns: finding out whether the command line's packages are there.

Does not own: the commands (``app``); nothing of them is imported before the packages were found.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

_NEEDED = ("rich",)


def main() -> int:
    """Run the ``wherry`` command and return its exit code.

    Without the packages of ``wherry[daemon]``, print how to install them and return 1.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        if sys.stderr is not None:
            print(_how_to_install(missing), file=sys.stderr)
        return 1
    _open_missing()
    from wherry.cli.app import run

    return run()


def _open_missing() -> None:
    """Write to nowhere what goes to a stream that is closed: cron and some job epilogs close theirs."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)


def _how_to_install(missing: list[str]) -> str:
    return (
        f"The wherry command needs packages that are not installed here: {', '.join(missing)}.\n"
        "  pip install 'wherry[daemon]'\n"
        "or, to leave this environment as it is, in one of its own:\n"
        "  uv tool install 'wherry[daemon]'\n"
        "which makes a wherry command in ~/.local/bin; call that one."
    )
