"""The ``wherry`` command's door. Owns: finding out whether the command line's packages are there.

Does not own: the commands (``app``); nothing of them is imported before the packages were found.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich")


def main() -> int:
    """Run the ``wherry`` command and return its exit code.

    Without the packages of ``wherry[daemon]``, print how to install them and return 1.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(_how_to_install(missing), file=sys.stderr)
        return 1
    from wherry.cli.app import run

    return run()


def _how_to_install(missing: list[str]) -> str:
    return (
        f"The wherry command needs packages that are not installed: {', '.join(missing)}.\n"
        "  pip install 'wherry[daemon]'"
    )
