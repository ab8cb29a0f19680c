"""Secrets in URIs: where they stand, and URIs without them.

Owns: finding passwords and signatures. Does not own: what is done about them.
"""

from __future__ import annotations

import re

#: Query parameters that give access to whoever has them: signatures of S3, GCS, Azure and CloudFront.
_SIGNED = re.compile(
    r"(?i)(?<=[?&])((?:x-amz-|x-goog-)?(?:signature|credential|security-token)|sig|token|access_token"
    r"|policy|key-pair-id|googleaccessid|awsaccesskeyid)=[^&#]*"
)
_USER = re.compile(r"(?<=//)[^/?#@]*@")


def has_secrets(uri: str) -> bool:
    """Whether a URI holds a name and password, or a signature."""
    return bool(_USER.search(uri) or _SIGNED.search(uri))


def masked(uri: str) -> str:
    """The URI for messages and logs: ``***`` in the place of each secret."""
    return _SIGNED.sub(r"\1=***", _USER.sub("***@", uri))
