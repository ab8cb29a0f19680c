"""Options that several commands have, and how their values are read.

Owns: names, help and parsing. What can't be read is wrong usage (exit code 2), found before anything
is done. Does not own: what a command does with a value.
"""

from __future__ import annotations

import json
import os
import re
from argparse import ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from wherry.cli.command import option
from wherry.cli.words import read_span
from wherry.errors import UsageError
from wherry.wire import names, settings
from wherry.wire.address import normalize_store
from wherry.wire.names import check_alias, check_name, parse_artifact_ref

_Value = TypeVar("_Value")
_REQUEST = re.compile("[0-9a-fA-F-]{1,36}")


def reads(read: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Make a function an option's ``type``: what it refuses is wrong usage, told in its words."""

    def reading(text: str) -> _Value:
        try:
            return read(text)
        except UsageError as error:
            raise ArgumentTypeError(" ".join(filter(None, (error.message, error.hint)))) from error
        except ValueError as error:
            raise ArgumentTypeError(f"{error}.") from error

    return reading


@reads
def read_metadata(text: str) -> dict[str, object]:
    """Read a JSON object."""
    try:
        read = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise ValueError('metadata is a JSON object, such as {"step": 7}')  # noqa: TRY004
    return read


def count_from(least: int) -> Callable[[str], int]:
    """Make the ``type`` of an option that is a number."""

    @reads
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"{text!r} is no number from {least} on")
        return int(text)

    return read


@reads
def check_folder(text: str) -> str:
    """Refuse what names no folder: a variable that a script has not set, most likely."""
    if not text:
        raise ValueError("the folder is empty; leave the option out for the default")
    return text


@reads
def check_type(text: str) -> str:
    """Refuse what can't be a type."""
    return check_name("type", text)


@reads
def check_project(text: str) -> str:
    """Refuse what can't be a project."""
    return check_name("project", text)


@reads
def check_plain_name(text: str) -> str:
    """Refuse what can't be an artifact's name, or has a project before it."""
    return check_name("artifact", text)


@reads
def check_new_alias(text: str) -> str:
    """Refuse what no version can be given as an alias."""
    return text if text in ("", "latest") else check_alias(text)


@reads
def check_moved_alias(text: str) -> str:
    """Refuse what can be no alias that is moved."""
    return names.check_moved_alias(text)


@reads
def check_lane(text: str) -> str:
    """Refuse what is no ``name`` or ``project/name``."""
    if ":" in text or parse_artifact_ref(text).entity:
        raise ValueError(f"{text!r} is not NAME or PROJECT/NAME")
    return text


@reads
def check_artifact(text: str) -> str:
    """Refuse what names no artifact or version."""
    parse_artifact_ref(text)
    return text


@reads
def check_store(text: str) -> str:
    """Refuse what is no store's address."""
    normalize_store(text, os.environ)
    return text


@reads
def check_request(text: str) -> str:
    """Refuse what is no part of a request's id."""
    if not _REQUEST.fullmatch(text):
        raise ValueError(f"{text!r} is no request's id, nor the end of one")
    return text


@reads
def read_seconds(text: str) -> float:
    """Read a span of time."""
    return read_span(text)


@reads
def check_span(text: str) -> str:
    """Refuse what is no span of time."""
    read_span(text)
    return text


@reads
def read_size(text: str) -> int:
    """Read a number of bytes, which may be 0."""
    try:
        return settings.read_size(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not {error}") from error


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


JSON = option("--json", action="store_true", help="Print JSON, with the keys named above.")
PROJECT = option(
    "-p",
    "--project",
    metavar="PROJECT",
    type=check_project,
    help="The project; WHERRY_PROJECT otherwise.",
)
ONLY_PROJECT = PROJECT.but(help="Only this project.")
ONLY_NAME = option(
    "-n",
    "--name",
    metavar="NAME",
    type=check_plain_name,
    help="Only this artifact.",
)
STORE = option(
    "--store",
    metavar="STORE",
    type=check_store,
    help="The store's address; WHERRY_STORE otherwise.",
)
TYPE = option(
    "-t",
    "--type",
    dest="type_",
    metavar="TYPE",
    type=check_type,
    help="Refuse an artifact of another type.",
)
TIMEOUT = option(
    "--timeout",
    dest="timeout_s",
    metavar="TIME",
    type=read_seconds,
    help="Wait no longer than this: 60s, 10m, 1.5h.",
)
ALL = option("--all", dest="all_", action="store_true", help="All of them.")
WAIT = option(
    "--wait", action=BooleanOptionalAction, help="Wait until it is committed. [default: wait]"
)
REQUESTS = option(
    "requests",
    nargs="*",
    metavar="REQUEST",
    type=check_request,
    help="Ids of requests, or the end of each, as `wherry status` shows it.",
)
ARTIFACT = option(
    "artifact",
    metavar="[PROJECT/]NAME[:VERSION]",
    type=check_artifact,
    help="The artifact; its latest version where none is named.",
)
