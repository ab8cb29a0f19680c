"""URIs of objects in buckets, as references name them: ``s3://bucket/key``, ``gs://bucket/key``.

Owns: what is bucket, key, pinned version and option; whose server a client means. Does not own: asking
it. Keys are plain: nothing in them is percent-decoded, and a ``?`` that begins no option is part of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from wherry.errors import BadURI
from wherry.wire.address import normalize_store

#: Schemes whose URIs name an object or a prefix; only the server knows which.
BUCKETS = ("s3", "gs")
_OPTIONS = ("addressing", "endpoint_url", "region", "versionId")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_FORM = "Write scheme://bucket/key, or scheme://bucket/prefix/ for all below a prefix."


class ObjectURI(NamedTuple):
    """A URI, taken apart."""

    scheme: str
    bucket: str
    key: str  # "" for the whole bucket
    version: str | None  # pinned: S3 version id, GCS generation
    options: dict[str, str]  # endpoint_url, region, addressing

    def of(self, key: str) -> str:
        """The URI of another object of the bucket, with the same options."""
        written = "&".join(
            f"{name}={quote(text, safe=':/')}" for name, text in self.options.items()
        )
        return f"{self.scheme}://{self.bucket}/{key}{written and '?' + written}"


def split_object(uri: str) -> ObjectURI:
    """Take a URI apart. Raises ``BadURI``."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    version: str | None = None
    options: dict[str, str] = {}
    if scheme.lower() == "gs":
        plain, mark, generation = key.rpartition("#")
        if mark and generation.isdecimal():
            key, version = plain, generation
    else:
        bucket, key, options = _s3_options(bucket, key)
        version = options.pop("versionId", None)
    if not _BUCKET.fullmatch(bucket) or "\0" in key:
        raise BadURI(f"{uri!a} names no bucket.", hint=_FORM)
    return ObjectURI(scheme.lower(), bucket, key, version, options)


def _s3_options(bucket: str, key: str) -> tuple[str, str, dict[str, str]]:
    where = key or bucket
    plain, mark, query = where.rpartition("?")
    pairs = parse_qsl(query, keep_blank_values=True) if mark else []
    if not pairs or any(name not in _OPTIONS for name, _ in pairs):
        return bucket, key, {}
    return (bucket, plain, dict(pairs)) if key else (plain, "", dict(pairs))


def server_of(uri: str, environ: Mapping[str, str]) -> str:
    """The address of the server that a client means by a URI; "" where the URI says all.

    Args:
        environ: names endpoint and region where the URI does not, as for stores.

    Raises ``BadURI``.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme not in BUCKETS:
        return ""
    parts = split_object(uri)
    if scheme == "gs":
        return normalize_store(f"gs://{parts.bucket}", environ)
    query = "&".join(f"{name}={quote(text, safe=':/')}" for name, text in parts.options.items())
    return normalize_store(f"s3://{parts.bucket}{query and '?' + query}", environ)
