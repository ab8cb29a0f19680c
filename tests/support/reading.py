"""Reads a store as another program would: from ``docs/store-format.md``, with none of Wherry's code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, urlsplit

import zstandard

from tests.support.servers import FakeGcs


class Objects(Protocol):
    """Keys and bytes."""

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with ``prefix``, in order."""
        ...

    def get(self, key: str) -> bytes:
        """One object."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object."""
        ...


class GcsObjects:
    """A prefix of a bucket on an emulator of Cloud Storage."""

    def __init__(self, server: FakeGcs, bucket: str, prefix: str) -> None:
        self._server, self._bucket, self._prefix = server, bucket, f"{prefix}/"

    def keys(self, prefix: str) -> list[str]:
        found = self._server.names(self._bucket, self._prefix + prefix)
        return [name.removeprefix(self._prefix) for name in found]

    def get(self, key: str) -> bytes:
        return self._server.get(self._bucket, self._prefix + key)

    def remove(self, key: str) -> None:
        self._server.delete(self._bucket, self._prefix + key)


class FolderObjects:
    """A folder store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keys(self, prefix: str) -> list[str]:
        found = []
        for folder, _, files in os.walk(self._root):
            below = os.path.relpath(folder, self._root)
            found += [name if below == "." else f"{below}/{name}" for name in files]
        return sorted(key for key in found if key.startswith(prefix))

    def get(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def remove(self, key: str) -> None:
        (self._root / key).unlink()


class S3Objects:
    """A bucket, read by botocore."""

    def __init__(self, address: str, key_id: str, secret: str) -> None:
        import botocore.session

        parts = urlsplit(address)
        self._bucket = parts.netloc
        self._prefix = parts.path.lstrip("/") + "/" if parts.path.strip("/") else ""
        self._client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=parse_qs(parts.query)["endpoint_url"][0],
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
        )

    def keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [key.removeprefix(self._prefix) for key in keys]

    def get(self, key: str) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        body = answer["Body"].read()
        assert isinstance(body, bytes)
        return body

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)


def records(objects: Objects, project: str, name: str) -> list[dict[str, Any]]:
    """All records of an artifact, v0 first; a hole fails the test."""
    folder = f"{project}/artifacts/{_encode(name)}/versions/"
    keys = [key for key in objects.keys(folder) if not key.endswith(".edit.json")]
    assert keys == [f"{folder}v{number:08d}.json" for number in range(len(keys))], "a hole"
    found = [json.loads(objects.get(key)) for key in keys]
    assert [record["version"] for record in found] == list(range(len(found)))
    return found


def content(home: Path, name: str) -> list[dict[str, bytes]]:
    """The files of an artifact in project "p" and the home's own store, version by version."""
    objects = FolderObjects(home / "store")
    return [dict(files(objects, "p", record)) for record in records(objects, "p", name)]


def files(objects: Objects, project: str, record: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each entry of a version, every digest checked."""
    pack, packed = "", b""  # one at a time: entries of a pack follow each other
    for entry in manifest(objects, project, record):
        if "ref" in entry:
            continue
        hex_ = entry["digest"].removeprefix("sha256:")
        if "pack" not in entry:
            body = objects.get(key_of(project, entry))
        else:
            if entry["pack"] != pack:
                pack, packed = entry["pack"], objects.get(key_of(project, entry))
                assert hashlib.sha256(packed).hexdigest() == pack, "the pack is damaged"
            body = packed[entry["offset"] : entry["offset"] + entry["size"]]
        assert hashlib.sha256(body).hexdigest() == hex_, f"{entry['path']} is damaged"
        assert len(body) == entry["size"]
        yield entry["path"], body


def key_of(project: str, entry: dict[str, Any]) -> str:
    """The key of the object that holds an entry's bytes."""
    kind, hex_ = "blobs", entry["digest"].removeprefix("sha256:")
    if "pack" in entry:
        kind, hex_ = "packs", entry["pack"]
    return f"{project}/{kind}/sha256/{hex_[:2]}/{hex_}"


def manifest(objects: Objects, project: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a version's manifest, its digest checked."""
    hex_ = record["manifest"].removeprefix("sha256:")
    packed = objects.get(f"{project}/manifests/sha256/{hex_[:2]}/{hex_}")
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert hashlib.sha256(plain).hexdigest() == hex_, "the manifest is damaged"
    lines = [json.loads(line) for line in plain.splitlines()]
    assert len(lines) == record["entries"]
    return lines


def _encode(name: str) -> str:
    return quote(name, safe="-._~")
