"""Options that several commands have, and how their values are read.

Owns: names, help and parsing. What can't be read is wrong usage (exit code 2), found before anything
is done. Does not own: what a command does with a value.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer

from wherry.cli.words import read_span
from wherry.errors import UsageError
from wherry.wire.address import normalize_store
from wherry.wire.names import check_alias, check_name, parse_artifact_ref

_REQUEST = re.compile("[0-9a-fA-F-]{1,36}")


def checked(check: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """Make an option's callback; what ``check`` refuses is wrong usage."""

    def callback(value: str | None) -> str | None:
        if value is not None:
            _use(check, value)
        return value

    return callback


def each_checked(
    check: Callable[[str], object],
) -> Callable[[list[str] | None], list[str]]:
    """Make the callback of an option that may be given more than once; as ``checked``."""

    def callback(values: list[str] | None) -> list[str]:
        for value in values or ():
            _use(check, value)
        return values or []  # older releases of typer can't have None here

    return callback


def _use(check: Callable[[str], object], value: str) -> object:
    try:
        return check(value)
    except UsageError as error:
        raise typer.BadParameter(" ".join(filter(None, (error.message, error.hint)))) from error
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error


def is_metadata(text: str) -> bool:
    """Tell a JSON object. Raises ``ValueError``, which says what is wrong."""
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise ValueError('metadata is a JSON object, such as {"step": 7}')  # noqa: TRY004
    return True


def check_type(text: str) -> str:
    """Refuse what can't be a type. Raises ``BadName``."""
    return check_name("type", text)


def check_lane(text: str) -> object:
    """Refuse what is no ``name`` or ``project/name``."""
    found = parse_artifact_ref(text)
    if ":" in text or found.entity:
        raise ValueError(f"{text!r} is not NAME or PROJECT/NAME")
    return found


def check_store(text: str) -> object:
    """Refuse what is no store's address. Raises ``UsageError``."""
    return normalize_store(text, os.environ)


def check_request(text: str) -> bool:
    """Refuse what is no part of a request's id. Raises ``ValueError``."""
    if not _REQUEST.fullmatch(text):
        raise ValueError(f"{text!r} is no request's id, nor the end of one")
    return True


class Target(NamedTuple):
    """An artifact's project and name, as a command means them."""

    project: str
    name: str
    version: str


def target(text: str, project: str) -> Target:
    """Read ``NAME[:VERSION]`` or ``PROJECT/NAME[:VERSION]``.

    Args:
        text: checked by the parameter.
        project: where ``text`` names none.
    """
    found = parse_artifact_ref(text)
    return Target(found.project or project, found.name, found.version)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, with the keys named above.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-p",
        help="The project; WHERRY_PROJECT otherwise.",
        callback=checked(lambda name: check_name("project", name)),
    ),
]
OnlyProject = Annotated[
    str | None,
    typer.Option(
        "--project",
        "-p",
        help="Only this project.",
        callback=checked(lambda name: check_name("project", name)),
    ),
]
OnlyName = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        help="Only this artifact.",
        callback=checked(lambda name: check_name("artifact", name)),
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store's address; WHERRY_STORE otherwise.",
        callback=checked(check_store),
    ),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type",
        "-t",
        help="Refuse an artifact of another type.",
        callback=checked(check_type),
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="Wait no longer than this: 60s, 10m, 1.5h.",
        callback=checked(read_span),
    ),
]
Requests = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REQUEST",
        help="Ids of requests, or the end of each, as `wherry status` shows it.",
        callback=each_checked(check_request),
    ),
]
Artifact = Annotated[
    str,
    typer.Argument(
        metavar="[PROJECT/]NAME[:VERSION]",
        help="The artifact; its latest version where none is named.",
        callback=checked(parse_artifact_ref),
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        help="The artifact's name, or PROJECT/NAME.",
        callback=checked(check_lane),
    ),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option(
        "--alias",
        "-a",
        help="An alias to move to this version; more than one may be given.",
        callback=each_checked(lambda alias: alias in ("", "latest") or check_alias(alias)),
    ),
]
Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata", metavar="JSON", help="A JSON object.", callback=checked(is_metadata)
    ),
]


def seconds(timeout: str | None) -> float | None:
    """Read ``--timeout``, which was checked."""
    return None if timeout is None else read_span(timeout)
