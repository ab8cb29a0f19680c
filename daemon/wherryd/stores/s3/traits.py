"""In what servers that speak S3 differ, as far as our requests do.

Owns: the table, which row is a server's, and which hosts the same people run. Does not own: what a server is
seen to do, which counts more than any table: whether it honours conditions (``stores.probe``), whether it
checks a body (``sender``).

A row is found by the host of the endpoint. Servers that people run themselves (MinIO, Ceph, SeaweedFS,
rclone) have any host and the last row, which asks for nothing that they must know. Sources: decision 0019.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec


class Traits(msgspec.Struct, frozen=True):
    """One row."""

    hosts: str  # a regular expression for all of the host; its group "region" is the region
    #: The region that signs where neither the address nor the profile nor the host names one.
    region: str = "us-east-1"
    #: Whether requests may have headers x-amz-checksum-…; else they are refused for them.
    takes_sums: bool = True
    #: What else there is for who needs conditional writes, and doesn't find them here.
    instead: str = ""


_TABLE = (
    Traits(r"(?:.+\.)?s3[.-](?P<region>[a-z]+(?:-[a-z]+)+-\d+)\.amazonaws\.com(?:\.cn)?"),
    Traits(
        r"(?:.+\.)?storage\.googleapis\.com",
        region="auto",
        takes_sums=False,
        instead="gs://bucket/prefix, which has them, leads to the same bucket",
    ),
    Traits(r".+\.r2\.cloudflarestorage\.com", region="auto", takes_sums=False),
    Traits(r"(?:.+\.)?s3\.(?P<region>[a-z0-9-]+)\.backblazeb2\.com", takes_sums=False),
    Traits(r".*"),
)

#: Of AWS's hosts for S3, without a bucket; the group is the domain of a partition.
_AWS = re.compile(r"s3(?:[.-][a-z0-9-]+)*\.(amazonaws\.com(?:\.cn)?)")


def traits_of(endpoint_url: str) -> Traits:
    """The row of the server at an endpoint, with the region that its host names."""
    host = urlsplit(endpoint_url).hostname or ""
    row, region = _row_of(host)
    return msgspec.structs.replace(row, region=region or row.region)


def region_in(host: str) -> str:
    """The region that a host's name stands for; "" where it stands for none."""
    return _row_of(host)[1]


def is_akin(host: str, other: str) -> bool:
    """Whether the same people run both hosts, by their names: the other is below the one, or both are AWS's.

    Args:
        other: without a bucket in its name.
    """
    ours, theirs = _AWS.fullmatch(host), _AWS.fullmatch(other)
    if ours and theirs:
        return ours[1] == theirs[1]
    return other == host or other.endswith(f".{host}")


def _row_of(host: str) -> tuple[Traits, str]:
    matches = ((row, re.fullmatch(row.hosts, host)) for row in _TABLE)
    row, match = next((row, match) for row, match in matches if match)
    return row, match.groupdict().get("region") or ""
