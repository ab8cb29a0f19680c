"""The types of a table's columns, and their notation in W&B's files: ``{"wb_type": "number"}``.

Owns: the types, which of them go together, reading and writing their notation. Does not own: which type a
Python value is of (``values``), what a column has seen (``columns``).

A ``Kind`` is what W&B calls a type. The kinds go together as W&B's do, and where W&B's writer lets pass what
its reader then refuses (lists of mixed values), as its reader does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from wherry.errors import BadTable
from wherry.wire.canonical import Json

#: More keys than that in dicts of one column are data, and no type.
MAX_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class Plain:
    """A kind that is a name and nothing else."""

    name: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """Lists; ``length`` where all have the same."""

    element: Kind
    length: int | None = None


@dataclass(frozen=True, slots=True)
class DictOf:
    """Dicts, by their keys."""

    fields: tuple[tuple[str, Kind], ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any of several kinds, by name; None is one of them where None is allowed."""

    members: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A kind of W&B's that Wherry only carries along, such as of pictures; its notation as JSON."""

    text: str


Kind: TypeAlias = Plain | ListOf | DictOf | OneOf | Foreign

ANY = Plain("any")
UNKNOWN = Plain("unknown")
NONE = Plain("none")
NUMBER = Plain("number")
STRING = Plain("string")
BOOLEAN = Plain("boolean")
TIMESTAMP = Plain("timestamp")
_PLAIN = {kind.name: kind for kind in (ANY, UNKNOWN, NONE, NUMBER, STRING, BOOLEAN, TIMESTAMP)}


# ── which go together ──────────────────────────────────────────────────────────────────────────
def optional(kind: Kind) -> Kind:
    """Allow None beside what ``kind`` allows."""
    return one_of([kind, NONE])


def one_of(kinds: Iterable[Kind]) -> Kind:
    """Allow whatever one of ``kinds`` allows."""
    members = dict.fromkeys(member for kind in kinds for member in members_of(kind))
    return OneOf(tuple(sorted(members, key=str))) if len(members) > 1 else next(iter(members))


def members_of(kind: Kind) -> tuple[Kind, ...]:
    """List the kinds that a kind is one of; itself where it is a single one."""
    return kind.members if isinstance(kind, OneOf) else (kind,)


def allows_none(kind: Kind) -> bool:
    """Whether None is allowed."""
    return NONE in members_of(kind)


def joined(kind: Kind, other: Kind) -> Kind | None:
    """Give the kind of a column of ``kind`` once a value of ``other`` is in it; None where it may not."""
    if kind == other:
        return kind
    if isinstance(other, OneOf):
        result: Kind | None = kind
        for member in other.members:
            result = None if result is None else joined(result, member)
        return result
    if isinstance(kind, OneOf):
        return _joined_to_one(kind.members, other)
    if kind in (ANY, UNKNOWN):
        return None if other == NONE else ANY if kind == ANY else other
    if isinstance(kind, ListOf) and isinstance(other, ListOf):
        length = kind.length if kind.length == other.length else None
        return ListOf(inner(kind.element, other.element), length)
    if isinstance(kind, DictOf) and isinstance(other, DictOf):
        return _joined_dicts(dict(kind.fields), dict(other.fields))
    return None


def inner(kind: Kind, other: Kind) -> Kind:
    """Join kinds inside of lists and dicts, where anything goes: what does not go together is "any"."""
    if UNKNOWN in (kind, other):
        return other if kind == UNKNOWN else kind
    wants_none = allows_none(kind) or allows_none(other)
    rest = [member for member in members_of(kind) if member != NONE]
    others = [member for member in members_of(other) if member != NONE]
    result = rest[0] if rest else others[0] if others else NONE
    for member in [*rest[1:], *others]:
        result = joined(result, member) or ANY
    return optional(result) if wants_none else result


def _joined_to_one(members: tuple[Kind, ...], other: Kind) -> Kind | None:
    for member in sorted(members, key=lambda each: each == UNKNOWN):  # what is known comes first
        together = joined(member, other)
        if together is not None:
            return one_of([together if each is member else each for each in members])
    return None


def _joined_dicts(fields: dict[str, Kind], others: dict[str, Kind]) -> Kind | None:
    """Join dicts; a key that one of them has not is as if it were None there."""
    keys = dict.fromkeys([*fields, *others])
    if len(keys) > MAX_FIELDS:
        return None
    return DictOf(tuple((key, inner(fields.get(key, NONE), others.get(key, NONE))) for key in keys))


# ── the notation ───────────────────────────────────────────────────────────────────────────────
def notation(kind: Kind) -> Json:
    """Write a kind as W&B's files have it."""
    if isinstance(kind, Plain):
        return {"wb_type": kind.name}
    if isinstance(kind, Foreign):
        return cast("Json", json.loads(kind.text))
    params: dict[str, Json]
    if isinstance(kind, OneOf):
        name, params = "union", {"allowed_types": [notation(each) for each in kind.members]}
    elif isinstance(kind, ListOf):
        name, params = "list", {"element_type": notation(kind.element), "length": kind.length}
    else:
        fields: Json = {key: notation(each) for key, each in kind.fields}
        name, params = "typedDict", {"type_map": fields}
    return {"wb_type": name, "params": params}


def from_notation(written: object) -> Kind:
    """Read a kind as W&B's files have it. Raises ``BadTable``."""
    try:
        return _read(cast("Mapping[str, Json]", written))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise BadTable(f"A table's column has a type that is none: {str(written)[:100]}") from error


def _read(written: Mapping[str, Json]) -> Kind:
    name = written["wb_type"]
    params = cast("Mapping[str, Json]", written.get("params") or {})
    if name == "union":
        allowed = cast("list[Mapping[str, Json]]", params["allowed_types"])
        return one_of([_read(each) for each in allowed] or [UNKNOWN])
    if name == "list":
        element = cast("Mapping[str, Json] | None", params.get("element_type"))
        length = params.get("length")
        return ListOf(_read(element) if element else UNKNOWN, cast("int | None", length))
    if name in ("typedDict", "dictionary"):
        fields = cast("Mapping[str, Mapping[str, Json]]", params.get("type_map") or {})
        return DictOf(tuple((key, _read(each)) for key, each in fields.items()))
    plain = _PLAIN.get(str(name))
    return plain if plain and not params else Foreign(json.dumps(written, sort_keys=True))


def words(kind: Kind) -> str:
    """Name a kind in a message: "numbers", "strings or None"."""
    if isinstance(kind, OneOf):
        members = sorted(kind.members, key=lambda each: each == NONE)
        return " or ".join(words(each) for each in members)
    if isinstance(kind, ListOf):
        return f"lists of {words(kind.element)}"
    if isinstance(kind, DictOf):
        return f"dicts with {', '.join([key for key, _ in kind.fields][:5])}"
    if isinstance(kind, Foreign):
        return str(json.loads(kind.text)["wb_type"])
    return _WORDS[kind]


_WORDS = {
    ANY: "anything",
    UNKNOWN: "anything",
    NONE: "None",
    NUMBER: "numbers",
    STRING: "strings",
    BOOLEAN: "booleans",
    TIMESTAMP: "datetimes",
}
