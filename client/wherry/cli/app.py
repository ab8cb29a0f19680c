"""The ``wherry`` command as a whole: which commands there are, and how each of them ends.

Owns: the list of commands, ``--debug`` and ``--version``, exit codes, how errors are told. Does not
own: what the commands do. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wherry.cli import collecting, daemon, doctor, files, looking, output, queue, requests, waits
from wherry.cli.help import Command
from wherry.errors import WherryError
from wherry.wire import VERSION


class _Wherry(TyperGroup):
    """The group of all commands: tells errors, and lets ``--debug`` stand anywhere.

    A context's class is typer's own or click's, as typer's release has it; hence ``Any``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            own = [arg for arg in args[:end] if arg != "--debug"]
            args = ["--debug", *own, *args[end:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _told_errors(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextlib.contextmanager
def _told_errors(*, debug: bool) -> Iterator[None]:
    """Turn an error into a message and exit code 1; with ``debug``, let it through."""
    try:
        yield
    except WherryError as error:
        if debug:
            raise
        output.print_error(error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        output.note("wherry: interrupted; what was logged goes on in the daemon: wherry status")
        raise typer.Exit(1) from error
    except OSError as error:
        if debug or error.errno == errno.EPIPE:  # typer ends quietly when nobody reads on
            raise
        where = f": {error.filename}" if error.filename else ""
        output.note(f"wherry: {error.strerror or error}{where}")
        raise typer.Exit(1) from error


app = typer.Typer(
    name="wherry",
    cls=_Wherry,
    rich_markup_mode=None,  # plain help comes up twice as fast
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.print_text(f"wherry {VERSION}")
        raise typer.Exit


@app.callback()
def wherry(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code an error comes from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Log artifacts into storage of your own, and see what becomes of them.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


for _command in (
    files.put,
    files.get,
    looking.ls,
    looking.show,
    queue.status,
    queue.queue,
    waits.wait,
    requests.retry,
    requests.cancel,
    requests.acknowledge,
    waits.sync,
    waits.drain,
    collecting.gc,
    doctor.doctor,
):
    app.command(cls=Command)(_command)

app.add_typer(daemon.app, name="daemon")


def run() -> int:
    """Run the command that the process was started with; return its exit code."""
    try:
        app(prog_name="wherry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
