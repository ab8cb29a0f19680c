"""The ``wherry`` command as a whole: which commands there are, and how each of them ends.

Owns: the list of commands, ``--debug`` and ``--version``, exit codes, how errors are told. Does not
own: what the commands do. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence

from wherry.cli import output
from wherry.cli.command import Group, option
from wherry.errors import WherryError
from wherry.wire import VERSION

_TEXT = """\
Log artifacts into storage of your own, and see what becomes of them.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

WHERRY = Group(
    _TEXT,
    {
        "put": "files",
        "get": "files",
        "ls": "looking",
        "show": "looking",
        "alias": "alias",
        "lineage": "lineage",
        "status": "queue",
        "queue": "queue",
        "wait": "waits",
        "retry": "requests",
        "cancel": "requests",
        "acknowledge": "requests",
        "sync": "waits",
        "drain": "waits",
        "gc": "collecting",
        "doctor": "doctor",
        "cache": "cache",
        "daemon": "daemon",
    },
    [
        option("--debug", action="store_true", help="Show where in the code an error comes from."),
        option(
            "--version", action="version", version=f"wherry {VERSION}", help="Print the version."
        ),
    ],
)


def run(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        args: what the process was started with, if it is left out.
    """
    debug, rest = _take_debug(sys.argv[1:] if args is None else args)
    try:
        with _told_errors(debug=debug):
            WHERRY("wherry", rest)
            sys.stdout.flush()
    except SystemExit as end:
        _drop_unwritten()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _take_debug(args: Sequence[str]) -> tuple[bool, list[str]]:
    """Let ``--debug`` stand anywhere but behind ``--``."""
    end = args.index("--") if "--" in args else len(args)
    own = [arg for arg in args[:end] if arg != "--debug"]
    return len(own) < end, [*own, *args[end:]]


@contextlib.contextmanager
def _told_errors(*, debug: bool) -> Iterator[None]:
    """Turn an error into a message and exit code 1; with ``debug``, let it through."""
    try:
        yield
    except WherryError as error:
        if debug:
            raise
        output.print_error(error)
        raise SystemExit(1) from error
    except KeyboardInterrupt as error:
        output.note("wherry: interrupted; what was logged goes on in the daemon: wherry status")
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads on (`| head`): nothing to tell, nor whom
            raise SystemExit(1) from error
        if debug:
            raise
        where = f": {error.filename}" if error.filename else ""
        output.note(f"wherry: {error.strerror or error}{where}")
        raise SystemExit(1) from error


def _drop_unwritten() -> None:
    """Let Python not try, and complain, once more at its end, where a stream takes no more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
