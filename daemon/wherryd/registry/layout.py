"""Key names: where each thing lies in a store (docs/store-format.md, "Layout").

Owns: making keys from plain names, and reading numbers and names back out of listed keys.
Does not own: what the objects hold (``records``, ``manifest``), or any I/O.

A name becomes one segment by percent-encoding. Keys that this version does not know (a
newer format's objects) are no versions and no aliases; readers pass them over.
"""

from __future__ import annotations

import re

from wherry.errors import BadName
from wherry.wire.names import decode_segment, encode_segment

IDENTITY = "wherry.json"
"""The one key outside the projects, beside ``WRITER``."""

WRITER = "wherry-writer.json"
"""Names the home that alone writes, where there are no conditional writes."""

SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
"""A digest of bytes, as every key, record and manifest writes it."""

HEX = re.compile(r"[0-9a-f]{64}")
"""A pack's name: the SHA-256 of its bytes."""

_CONTENT = re.compile(r"[^/]+/(blobs|packs|manifests)/sha256/([0-9a-f]{2})/\2[0-9a-f]{62}")
_NUMBER = re.compile(r"v([0-9]{8}|[1-9][0-9]{8,})(\.edit)?\.json")


def project_segment(project: str) -> str:
    """Encode a project's name; a project called like one of the keys beside it would lie over that."""
    is_a_key = project in (IDENTITY, WRITER)
    return project.replace(".", "%2E") if is_a_key else encode_segment(project)


def artifacts_prefix(project: str) -> str:
    """Prefix below which each artifact of a project is a folder."""
    return f"{project_segment(project)}/artifacts/"


def artifact_key(project: str, name: str) -> str:
    """Key of the object that claims an artifact's type."""
    return f"{_artifact(project, name)}artifact.json"


def versions_prefix(project: str, name: str) -> str:
    """Prefix of an artifact's records."""
    return f"{_artifact(project, name)}versions/"


def version_key(project: str, name: str, version: int) -> str:
    """Key of a version's record: eight digits, and more above 99,999,999."""
    return f"{versions_prefix(project, name)}v{version:08d}.json"


def edit_key(project: str, name: str, version: int) -> str:
    """Key of a version's description, metadata and tags as last saved."""
    return f"{versions_prefix(project, name)}v{version:08d}.edit.json"


def aliases_prefix(project: str, name: str) -> str:
    """Prefix of an artifact's alias objects."""
    return f"{_artifact(project, name)}aliases/"


def alias_key(project: str, name: str, alias: str) -> str:
    """Key of an alias object."""
    return f"{aliases_prefix(project, name)}{encode_segment(alias)}.json"


def manifest_key(project: str, manifest: str) -> str:
    """Key of a manifest, by the digest of its plain bytes (``sha256:<hex>``)."""
    return _content_key(project, "manifests", _hex(manifest))


def blob_key(project: str, digest: str) -> str:
    """Key of one file's bytes, by their digest (``sha256:<hex>``)."""
    return _content_key(project, "blobs", _hex(digest))


def pack_key(project: str, pack: str) -> str:
    """Key of many small files' bytes, by the pack's name (``<hex>``)."""
    return _content_key(project, "packs", _hex(f"sha256:{pack}"))


def holds_bytes(key: str) -> bool:
    """Whether a key is a blob's, a pack's or a manifest's."""
    return _CONTENT.fullmatch(key) is not None


def draft_prefix(project: str, draft: str) -> str:
    """Prefix of a draft, by its id (``<hex>``)."""
    return f"{project_segment(project)}/drafts/{_hex(f'sha256:{draft}')}/"


def parts_prefix(project: str, draft: str) -> str:
    """Prefix of what a draft's writers have put."""
    return f"{draft_prefix(project, draft)}parts/"


def part_key(project: str, draft: str, request: str) -> str:
    """Key of what one upsert has put."""
    return f"{parts_prefix(project, draft)}{encode_segment(request)}.json"


def sealing_key(project: str, draft: str) -> str:
    """Key of the object from which on a part may come too late."""
    return f"{draft_prefix(project, draft)}sealing.json"


def sealed_key(project: str, draft: str) -> str:
    """Key of the object that says what the draft is, for ever."""
    return f"{draft_prefix(project, draft)}sealed.json"


def conflict_key(project: str, draft: str) -> str:
    """Key of the object that says why a finish has failed, and that the draft is open to another."""
    return f"{draft_prefix(project, draft)}conflict.json"


def parse_part(key: str) -> str | None:
    """Read the request id out of a part's key; None for every other key."""
    return parse_alias(key)


def runs_prefix(project: str) -> str:
    """Prefix below which each run is a folder."""
    return f"{project_segment(project)}/runs/"


def run_prefix(project: str, run: str) -> str:
    """Prefix of what a run's homes wrote."""
    return f"{runs_prefix(project)}{encode_segment(run)}/"


def run_key(project: str, run: str, home: str, number: int) -> str:
    """Key of one record of a run: the home's id, and the home's number for it."""
    return f"{run_prefix(project, run)}{home}-{number:08d}.json"


def before_versions_above(project: str, name: str, after: int) -> str:
    """Make a key after which every record above ``after`` is listed; perhaps others too.

    Keys are listed as text. From nine digits on, a longer number sorts before shorter ones that are
    smaller (``v100000000`` before ``v20000000``), but never before ``v1``.
    """
    if after < 0:
        return ""
    return min(version_key(project, name, after), f"{versions_prefix(project, name)}v1")


def parse_version(key: str) -> int | None:
    """Read the number out of a record's key; None for every other key."""
    match = _NUMBER.fullmatch(_last(key))
    return int(match[1]) if match and not match[2] else None


def parse_version_key(key: str) -> tuple[str, int] | None:
    """Read the artifact's name and the number out of a record's key; None for every other key."""
    match key.split("/"):
        case [_, "artifacts", segment, "versions", _]:
            name, number = parse_name(segment), parse_version(key)
            return (name, number) if name is not None and number is not None else None
        case _:
            return None


def parse_edit(key: str) -> int | None:
    """Read the number out of the key of what was saved of a version; None for every other key."""
    match = _NUMBER.fullmatch(_last(key))
    return int(match[1]) if match and match[2] else None


def parse_alias(key: str) -> str | None:
    """Read the alias out of its object's key; None for every other key."""
    segment = _last(key)
    return parse_name(segment.removesuffix(".json")) if segment.endswith(".json") else None


def parse_name(segment: str) -> str | None:
    """Read a name out of a segment; None where no name is written like this."""
    try:
        return decode_segment(segment)
    except BadName:
        return None


def _artifact(project: str, name: str) -> str:
    return f"{artifacts_prefix(project)}{encode_segment(name)}/"


def _content_key(project: str, kind: str, hex_: str) -> str:
    return f"{project_segment(project)}/{kind}/sha256/{hex_[:2]}/{hex_}"


def _hex(digest: str) -> str:
    if not SHA256.fullmatch(digest):
        raise ValueError(f"{digest!r} is not sha256: and 64 lower-case hex digits")
    return digest[7:]


def _last(key: str) -> str:
    return key.rpartition("/")[2]
