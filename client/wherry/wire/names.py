"""Names, paths and how they are written (docs/promises.md, "Names, paths and metadata").

Owns: what a name, an alias and a path inside an artifact may be, and the percent-encoding that makes
a name one segment of a store's key. Does not own: keys (the registry), paths on this machine.
"""

from __future__ import annotations

from typing import NamedTuple

from wherry.errors import BadName, BadPath, UsageError

MAX_NAME_CHARACTERS = 128
MAX_SEGMENT_BYTES = 240
#: Of a path in an artifact: with each byte escaped, a manifest's line still has room for it.
MAX_PATH_BYTES = 100_000

_REFUSED = frozenset("/:") | {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))}
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_WRITTEN = [chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256)]


class ArtifactRef(NamedTuple):
    """What ``entity/project/name:v3`` says; None where it says nothing."""

    entity: str | None
    project: str | None
    name: str
    version: str  # "v3" or an alias; "latest" where nothing was said


def check_name(kind: str, name: str) -> str:
    """Return ``name`` if it may name a thing of this kind.

    Args:
        kind: for the message: "artifact", "project", "type", "run id", "group", "alias".

    Raises:
        BadName: 1 to 128 characters, none of ``/``, ``:`` and control characters, not ``.`` or
            ``..``, and at most 240 bytes when percent-encoded (each byte that is not a letter, a
            digit or one of ``-._~`` takes three).
    """
    if not isinstance(name, str):
        raise BadName(f"The {kind} is given as a {type(name).__name__}.", hint="Use a string.")
    trouble = _trouble(name)
    if trouble:
        raise BadName(
            f"The {kind} {_shown(name)} {trouble}.",
            hint="A name has 1 to 128 characters, none of them '/', ':' or a control character.",
        )
    return name


def check_alias(alias: str) -> str:
    """Return ``alias`` if it may be one.

    Raises:
        BadName: as ``check_name``; and ``v<digits>`` always means the version of that number.
    """
    check_name("alias", alias)
    if is_version(alias):
        raise BadName(
            f"The alias {alias!r} looks like a version number.",
            hint="v0, v1, … are the versions themselves; choose another alias.",
        )
    return alias


def is_name(text: str) -> bool:
    """Tell whether ``text`` can be a name (of a project, an artifact, a run)."""
    return not _trouble(text)


def is_version(text: str) -> bool:
    """Tell whether ``text`` is a version number such as ``v3``, and no alias."""
    return text[:1] == "v" and text[1:].isascii() and text[1:].isdigit()


def check_moved_alias(alias: str) -> str:
    """Return ``alias`` if a user may give it to a version, or take it away. Raises ``BadName``."""
    if alias == "latest":
        raise BadName(
            "latest is the highest version, and can't be moved.",
            hint="Use another alias; logging makes the next latest.",
        )
    return check_alias(alias)


def check_text(kind: str, text: str | None) -> str | None:
    """Return ``text`` as it is, if it can be written down. Raises ``UsageError``."""
    if text is not None and not isinstance(text, str):
        raise UsageError(f"The {kind} is a {text.__class__.__name__}.", hint="Use a string.")
    if text is not None and not is_utf8(text):
        raise UsageError(
            f"The {kind} {_shown(text)} is not valid Unicode.",
            hint="It was made from bytes that are not UTF-8 (a file's name, an argument).",
        )
    return text


def check_path(path: str) -> str:
    """Return ``path`` as it is, if it can be a path inside an artifact.

    Unicode forms are kept: two names that differ in form are two files.

    Raises:
        BadPath: absolute, ``.`` or ``..`` or nothing between two slashes, NUL, not UTF-8, or over
            100,000 bytes.
    """
    if not isinstance(path, str):
        raise BadPath(f"The path is a {type(path).__name__}.", hint="Use a string.")
    trouble = _path_trouble(path)
    if trouble:
        raise BadPath(
            f"The path {_shown(path)} {trouble}.",
            hint="Paths in an artifact are relative and '/'-separated, such as 'eval/a.json'.",
        )
    return path


def encode_segment(name: str) -> str:
    """Percent-encode all but RFC 3986's unreserved characters (section 2.3) of a checked name."""
    return "".join([_WRITTEN[byte] for byte in name.encode()])


def decode_segment(segment: str) -> str:
    """Undo ``encode_segment``.

    Raises:
        BadName: ``encode_segment`` never writes this; a name has one spelling in keys.
    """
    first, *rest = segment.split("%")
    try:
        raw = first.encode() + b"".join(
            bytes.fromhex(part[:2]) + part[2:].encode() for part in rest
        )
        name = raw.decode()
    except ValueError:
        name = ""
    if not name or encode_segment(name) != segment:
        raise BadName(f"The segment {_shown(segment)} is no percent-encoded name.")
    return name


def parse_artifact_ref(text: str) -> ArtifactRef:
    """Read ``name``, ``name:alias``, ``project/name:v3`` or ``entity/project/name:v3``.

    Raises:
        BadName: it is none of these, or a part of it is no name.
    """
    if not isinstance(text, str):
        raise BadName(f"The artifact is given as a {type(text).__name__}.", hint="Use a string.")
    place, colon, version = text.partition(":")
    *owners, name = place.split("/")
    if len(owners) > 2:
        raise BadName(
            f"{_shown(text)} has too many parts.", hint="Write 'project/name:v3' or 'name:alias'."
        )
    project = check_name("project", owners[-1]) if owners else None
    entity = check_name("entity", owners[0]) if len(owners) == 2 else None
    check_name("artifact", name)
    return ArtifactRef(entity, project, name, check_name("alias", version) if colon else "latest")


def _trouble(name: str) -> str:
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters"
    refused = [character for character in name if character in _REFUSED]
    if refused:
        return f"contains {refused[0]!r}"
    if name in (".", ".."):
        return "means a folder"
    if not is_utf8(name):
        return "is not valid Unicode"
    size_bytes = len(encode_segment(name))
    if size_bytes > MAX_SEGMENT_BYTES:
        return f"takes {size_bytes} bytes when percent-encoded, {MAX_SEGMENT_BYTES} are the most"
    return ""


def _path_trouble(path: str) -> str:
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if "\0" in path:
        return "contains NUL"
    if not is_utf8(path):
        return "is not UTF-8"
    if len(path) > MAX_PATH_BYTES // 4 and len(path.encode()) > MAX_PATH_BYTES:
        return f"takes {len(path.encode()):,} bytes, {MAX_PATH_BYTES:,} are the most"
    segments = path.split("/")
    if "" in segments:
        return "has an empty segment"
    if "." in segments or ".." in segments:
        return "contains '.' or '..'"
    return ""


def is_utf8(text: str) -> bool:
    """Tell whether ``text`` can be written as UTF-8: what Python read as other bytes can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    """Quote for a message: ASCII escapes only where the text can't be printed, and never long."""
    shown = repr(text) if is_utf8(text) else ascii(text)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"
