"""In what servers that speak S3 differ, as far as our requests do.

Owns: the table, and which row is a server's. Does not own: what a server is seen to do, which counts
more than any table: whether it honours conditions (``stores.probe``), whether it checks a body (``sender``).

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


def traits_of(endpoint_url: str) -> Traits:
    """The row of the server at an endpoint, with the region that its host names."""
    host = urlsplit(endpoint_url).hostname or ""
    matches = ((row, re.fullmatch(row.hosts, host)) for row in _TABLE)
    row, match = next((row, match) for row, match in matches if match)
    region = match.groupdict().get("region") or row.region
    return msgspec.structs.replace(row, region=region)
