"""What a command is: a function, its options, and how they are read from a command line.

Owns: reading by ``argparse``, wrong usage and its exit code 2, how ``--help`` looks. Does not own: which
commands there are (``app``), options that several commands have (``params``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from wherry.cli import output

_WIDTH = 80
_LEFT = 30  # at most so many columns of the help are for the options' names


class WrongUsage(Exception):
    """What a command was asked for can't be, although each argument by itself can be read."""


class Option(NamedTuple):
    """An option, or an argument; made by ``option``."""

    names: tuple[str, ...]
    settings: dict[str, Any]  # of all the kinds that argparse takes

    def but(self, **settings: Any) -> Option:
        """The same with other settings."""
        return self._replace(settings={**self.settings, **settings})

    @property
    def usage(self) -> str:
        """How the line of usage has it: nothing for an option."""
        if self.names[0].startswith("-"):
            return ""
        form = {"?": " [{}]", "*": " [{}]..."}.get(self.settings.get("nargs", ""), " {}")
        return form.format(self.settings["metavar"])


def option(*names: str, **settings: Any) -> Option:
    """Describe an option or an argument as ``ArgumentParser.add_argument`` takes it."""
    return Option(names, settings)


class Command:
    """A function whose arguments are options of the command line, and whose docstring is its help."""

    def __init__(self, run: Callable[..., None], options: Sequence[Option]) -> None:
        self._run = run
        self._options = options
        # As inspect.cleandoc, whose import takes longer; from Python 3.13 on there is nothing to do.
        self._text = (run.__doc__ or "").replace("\n    ", "\n").rstrip()

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return self._text.partition("\n")[0]

    def __call__(self, prog: str, args: Sequence[str]) -> None:
        """Read the arguments and run. ``prog`` is what was typed before them."""
        usage = "".join(each.usage for each in self._options)
        parser = _Parser(prog, usage, self._text, self._options)
        read = parser.read(args)
        try:
            self._run(**read)
        except WrongUsage as error:
            parser.error(str(error))


def command(*options: Option) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command; each option is handed to the argument of its name."""
    return lambda run: Command(run, options)


class Group:
    """Commands below one word.

    Args:
        text: its help; the first line says what it is for.
        commands: which module of ``wherry.cli`` has which; it is imported when the command is asked for.
        options: those that stand before the command.
    """

    def __init__(
        self, text: str, commands: Mapping[str, str], options: Sequence[Option] = ()
    ) -> None:
        self.commands = commands
        self.summary = text.partition("\n")[0]
        self._text = text
        self._options = options

    def __call__(self, prog: str, args: Sequence[str]) -> None:
        """Run the command that the first argument names."""
        word = args[0] if args else ""
        if word in self.commands:
            self.find(word)(f"{prog} {word}", args[1:])
            return
        in_full = word in ("", "-h", "--help")  # to list the commands, all modules are imported
        shown = self._list() if in_full else ""
        parser = _Parser(prog, " COMMAND ...", self._text, self._options, shown)
        if not args:
            parser.print_help(sys.stderr)
            raise SystemExit(2)
        if word.startswith("-"):
            parser.read([word])
        parser.error(f"there is no command {word!r}{_nearest(word, self.commands)}")

    def find(self, name: str) -> Command | Group:
        """Import one of the commands."""
        found: Command | Group = getattr(import_module(f"wherry.cli.{self.commands[name]}"), name)
        return found

    def _list(self) -> str:
        width = max(map(len, self.commands))
        lines = (f"  {name:<{width}}  {self.find(name).summary}" for name in self.commands)
        return "\n".join(("Commands:", *lines))


_HELP = option("-h", "--help", action="help", help="Show this message and exit.")


class _Parser(argparse.ArgumentParser):
    def __init__(
        self, prog: str, usage: str, text: str, options: Iterable[Option], end: str = ""
    ) -> None:
        super().__init__(
            prog=prog,
            usage=argparse.SUPPRESS,  # argparse's own names every option
            description=f"Usage: {prog} [OPTIONS]{usage}\n\n{text}",
            epilog=end,
            formatter_class=_Help,
            add_help=False,
            allow_abbrev=False,
        )
        arguments, others = self.add_argument_group("Arguments"), self.add_argument_group("Options")
        for each in (*options, _HELP):
            (arguments if each.usage else others).add_argument(*each.names, **each.settings)

    def read(self, args: Sequence[str]) -> dict[str, Any]:
        """Read the arguments; options may stand among those that are none."""
        # With "--", releases before Python 3.13 read what follows as options if they are mixed.
        read = self.parse_known_args if "--" in args else self.parse_known_intermixed_args
        found, left = read(args)
        before = args[: args.index("--")] if "--" in args else args
        extra = [word for word in left if word != "--"]
        for word in extra:
            if word.startswith("-") and word in before:
                name = word.partition("=")[0]
                known = self._option_string_actions
                self.error(f"there is no option {name}{_nearest(name, known)}")
        if extra:
            self.error(f"{extra[0]!r} is one argument too many")
        return vars(found)

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, and end with exit code 2."""
        output.note(f"wherry: {message}")
        output.note(f"  `{self.prog} --help` says how it is used.")
        raise SystemExit(2)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_LEFT, width=_WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """``-n, --name NAME``, which releases before Python 3.13 write as ``-n NAME, --name NAME``."""
        names = ", ".join(action.option_strings)
        value = "" if action.nargs == 0 else f" {action.metavar}"
        return f"{names}{value}".strip()


def _nearest(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(word, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""
