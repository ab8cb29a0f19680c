"""How ``--help`` reads. Owns: printing a command's docstring as it stands in the code, examples and all.

Does not own: the texts, which are the commands' docstrings.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command whose help is not wrapped anew: its lines are meant.

    What is handed in is of typer's own classes or click's, as typer's release has it; hence ``Any``.
    """

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (typer's call)
        text = inspect.cleandoc(self.help or "")
        with formatter.indentation():
            indent = " " * formatter.current_indent
            lines = (f"{indent}{line}".rstrip() for line in text.splitlines())
            formatter.write("\n" + "\n".join(lines) + "\n")
