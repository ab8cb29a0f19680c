"""Signature Version 4 for S3, with a content hash that was made before.

Owns: the headers that sign a request. Does not own: whose keys, and what time it is.

botocore makes the canonical request; its own ``add_auth`` would hash the body anew, ask the machine for the
time, and write what it signs to the debug log. Source of the rules: Amazon S3 API Reference, "Signature
Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from wherryd.stores.s3.identity import UNSIGNED, Keys


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    sha256: str,
    keys: Keys,
    region: str,
    now: float,
) -> dict[str, str]:
    """Return the headers with those that sign.

    Args:
        method: of the request.
        url: whole, percent-encoded as it is sent.
        headers: those that are signed, beside ``Host``.
        sha256: of the body, in hexadecimal.
        keys: whose signature; ``UNSIGNED`` leaves the headers as they are.
        region: of the bucket.
        now: seconds since 1970, as the server counts them.
    """
    if keys == UNSIGNED:
        return dict(headers)
    host = url.split("/", 3)[2]
    request = AWSRequest(method=method, url=url, headers={"Host": host, **headers})
    request.context["timestamp"] = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    request.context["sha256"] = sha256
    _Signer(keys, region).sign(request)
    return dict(request.headers.items())


class _Signer(S3SigV4Auth):
    def __init__(self, keys: Keys, region: str) -> None:
        credentials = ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token)
        super().__init__(credentials, "s3", region)

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])

    def sign(self, request: AWSRequest) -> None:
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]  # not in the stubs
        text = self.string_to_sign(request, self.canonical_request(request))
        signature = self.signature(text, request)
        self._inject_signature_to_request(request, signature)  # type: ignore[attr-defined]  # likewise
