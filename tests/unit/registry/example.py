"""The store of docs/store-format.md, made by the code itself: one artifact with v0 deleted, and v1."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from wherry.wire.canonical import canonical, draft_id
from wherryd.model import (
    Alias,
    DraftMark,
    DraftPart,
    Edit,
    Manifest,
    ManifestEntry,
    RunInfo,
    RunRecord,
    Sealed,
    Tombstone,
    VersionRecord,
)
from wherryd.registry import layout, records
from wherryd.registry.base import Identity, Writer
from wherryd.registry.manifest import ManifestWriter
from wherryd.registry.records import ArtifactClaim

PROJECT, NAME = "cats", "model"
METADATA = {"step": 7}
MODEL = b"weights\n"
EVAL = b'{"accuracy":0.9}\n'
PACK = b"first\n" + EVAL
PACK_NAME = hashlib.sha256(PACK).hexdigest()


def digest(data: bytes) -> str:
    """SHA-256 as keys and records write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


LINES = [
    ManifestEntry("eval/a.json", digest(EVAL), len(EVAL), pack=PACK_NAME, offset=6),
    ManifestEntry(
        "images/cat.png",
        "etag:9b2cf535f27731c974343645a3985328",
        812,
        ref="s3://b/images/cat.png",
        version="x1.4",
        resolved="2026-11-23T13:59:58.020Z",
        sums=("sha256:77af778b51abd4a3c51c5ddd97204a9c3ae614ebccb75a606c3b6865aed6744e",),
    ),
    ManifestEntry(
        "labels.csv",
        None,
        None,
        ref="https://example.org/labels.csv",
        resolved="2026-11-23T13:59:58.407Z",
    ),
    ManifestEntry("model.pt", digest(MODEL), len(MODEL)),
]

RUN = RunInfo(id="q3k9z1", name=None, group=None, job_type="train")

TOMBSTONE = Tombstone(
    format=1,
    version=0,
    request="0193e0c1-4f0a-7c31-9a55-0d1f6c2b7e10",
    digest=digest(b""),
    content=digest(canonical([digest(b""), "model", None, {}])),
    deleted="2026-11-24T08:30:00.000Z",
)

RUN_HOME = "51c7d0a4e8b24c6f9a3e1d7b60f2c895"
RUN_RECORD = RunRecord(
    format=1,
    project=PROJECT,
    run=RUN,
    written="2026-11-23T14:05:10.402Z",
    used=["cats/pets:v3"],
    logged=["cats/model:v1"],
    drafts=[],
    started="2026-11-23T13:58:41.007Z",
    ended="2026-11-23T14:05:10.391Z",
    exit_code=0,
    notes=None,
    tags=["nightly"],
    config={"lr": 0.1},
    client="wherry 0.1.0",
)

EDIT = Edit(
    format=1,
    version=1,
    description="the good one",
    metadata={"step": 7, "checked": True},
    edited="2026-11-25T09:12:44.310Z",
    write="5b0f6e0f8a3d4c6c9a0e7d2b1c4f8e93",
    tags=["reviewed"],
)
ALIAS = Alias(
    format=1, alias="best", version=1, highest=1, write="c41f0e6d5b7a49d2a0b3f8e7c6d5a491"
)


def record(manifest: Manifest) -> VersionRecord:
    """The record of v1."""
    return VersionRecord(
        format=1,
        version=1,
        request="0193e0c2-91d4-7b06-8c1e-5a2f4be07d93",
        type="model",
        description=None,
        metadata=METADATA,
        entries=manifest.entries,
        size=manifest.size,
        manifest=manifest.manifest,
        digest=manifest.digest,
        content=digest(content_value(manifest)),
        run=RUN,
        inputs=["cats/pets:v3"],
        aliases=["best"],
        created="2026-11-23T14:00:00.123Z",
        client="wherry 0.1.0",
    )


def content_value(manifest: Manifest) -> bytes:
    """What `content` of v1 is the digest of."""
    return canonical([manifest.digest, "model", None, METADATA])


WRITER = Writer(
    format=1,
    home="51c7d0a4e8b24c6f9a3e1d7b60f2c895",
    address="s3://lab/wherry?commit=single-writer&endpoint_url=https://s3.example.org",
    place="node7:/var/tmp/wherry-1000",
)


DRAFT = draft_id(PROJECT, NAME, "epoch-8")
PART_ID = "0193e0c3-0d20-7aa1-b3c4-9e6f21d07f55"
FINISH_ID = "0193e0c3-51b2-72c9-8d04-6a1b90e3c7d8"

SEALING = DraftMark(
    format=1, project=PROJECT, name=NAME, request=FINISH_ID, created="2026-11-23T15:00:07.002Z"
)


def part(manifest: Manifest) -> DraftPart:
    """What a run has put into the draft of a next version: the files of v1."""
    return DraftPart(
        format=1,
        request=PART_ID,
        home="51c7d0a4e8b24c6f9a3e1d7b60f2c895",
        sequence=12,
        type="model",
        description=None,
        metadata={"worker": 0},
        entries=manifest.entries,
        size=manifest.size,
        manifest=manifest.manifest,
        digest=manifest.digest,
        run=RUN,
        inputs=["cats/pets:v3"],
        aliases=[],
        created="2026-11-23T15:00:01.870Z",
        client="wherry 0.1.0",
    )


def sealed(manifest: Manifest) -> Sealed:
    """What that draft is: its version has just the part's files, and is about to be written."""
    metadata = {"worker": 0, "step": 8}
    return Sealed(
        format=1,
        draft=DRAFT,
        project=PROJECT,
        name=NAME,
        parts=[PART_ID],
        finisher=FINISH_ID,
        start=2,
        same=False,
        type="model",
        description=None,
        metadata=metadata,
        entries=manifest.entries,
        size=manifest.size,
        manifest=manifest.manifest,
        digest=manifest.digest,
        content=digest(canonical([manifest.digest, "model", None, metadata])),
        run=RUN,
        inputs=["cats/pets:v3"],
        aliases=["best"],
        created="2026-11-23T15:00:07.002Z",
        client="wherry 0.1.0",
    )


def plain_manifest() -> bytes:
    """The plain bytes of v1's manifest."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in LINES)


def digest_lines() -> bytes:
    """What `digest` of v1 is the digest of."""
    values = [(line.path, line.digest, line.size, line.ref, line.version) for line in LINES]
    return b"".join(canonical(value) + b"\n" for value in values)


def write_manifest(path: Path) -> Manifest:
    """Write v1's manifest to a file."""
    with ManifestWriter(str(path)) as writer:
        for line in LINES:
            writer.add_line(line)
        return writer.finish()


def objects(folder: Path) -> dict[str, bytes]:
    """Make every object of the store, by its key; ``folder`` is for the manifest's file."""
    manifest = write_manifest(folder / "manifest")
    return {
        layout.IDENTITY: records.encode(Identity(1, "7b1f0c52a9e94f0f8d3c6a1e2b4d5f60")),
        layout.WRITER: records.encode(WRITER),
        layout.artifact_key(PROJECT, NAME): records.encode(
            ArtifactClaim(1, PROJECT, NAME, "model")
        ),
        layout.version_key(PROJECT, NAME, 0): records.encode(TOMBSTONE),
        layout.version_key(PROJECT, NAME, 1): records.encode(record(manifest)),
        layout.edit_key(PROJECT, NAME, 1): records.encode(EDIT),
        layout.alias_key(PROJECT, NAME, "best"): records.encode(ALIAS),
        layout.manifest_key(PROJECT, manifest.manifest): (folder / "manifest").read_bytes(),
        layout.blob_key(PROJECT, digest(MODEL)): MODEL,
        layout.pack_key(PROJECT, PACK_NAME): PACK,
        layout.run_key(PROJECT, RUN.id, RUN_HOME, 4): records.encode(RUN_RECORD),
        layout.part_key(PROJECT, DRAFT, PART_ID): records.encode(part(manifest)),
        layout.sealing_key(PROJECT, DRAFT): records.encode(SEALING),
        layout.sealed_key(PROJECT, DRAFT): records.encode(sealed(manifest)),
    }
