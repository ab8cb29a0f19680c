"""What a server's answer means.

Owns: statuses, error codes, and the errors made of them. Does not own: what is done about a refusal
(``sender``), and what 412 and 409 mean to a verb (``store``). Source: Amazon S3 API Reference, "Error
Responses".

Between the daemon and the store there may be something that answers in its stead (an ingress without its
backend, a log-in page), with any status. So an answer that changes what is believed of the store has to bear
the store's own signs: a code, an ETag, a request id.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import msgspec

from wherry.errors import StoreError, StoreMissing, StoreUnavailable, StoreUnfit
from wherryd.stores.base import Body, ObjectMissing, OutcomeUnknown
from wherryd.stores.http.answers import fails, parse_date, wait_s
from wherryd.stores.http.transport import Response, arriving

_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"}
#: 407 is a proxy's.
_LATER = (404, 407, 408, 409, 429)
_NO_STORE = "Look whether the endpoint is the right one, and whether its server is up."
_ELSEWHERE = "Name its region (?region=…) or its server (?endpoint_url=…) in WHERRY_STORE."
_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "InvalidDigest"}
_REDIRECTS = (301, 302, 307, 308)
#: Of these those that S3 itself says; the others are a proxy's, or a log-in page's.
_S3_REDIRECTS = (301, 307)
_REQUEST_ID = "x-amz-request-id"
_CHECKSUM = "x-amz-checksum-sha256"
_MOVED = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IncorrectEndpoint", "Redirect"}

REGION = "x-amz-bucket-region"

NOTHING = hashlib.sha256(b"").digest()
"""SHA-256 of an empty body."""


class Call(msgspec.Struct, frozen=True):
    """One request, before it is signed."""

    method: str
    key: str | None  # None: the bucket
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    sums: Mapping[str, str] = {}  # headers for a server that takes checksums
    body: Body = b""
    digest: bytes = NOTHING  # the body's SHA-256
    streamed: bool = False  # a good answer's body is left unread
    is_large: bool = False  # … and is for a sink

    @property
    def what(self) -> str:
        """What it does, for errors."""
        return f"{self.method} {'the bucket' if self.key is None else self.key}"


class Answer(msgspec.Struct, frozen=True):
    """What came back. An error's body is taken apart."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    code: str = ""
    message: str = ""
    region: str = ""
    endpoint: str = ""  # host and port
    response: Response | None = None  # of a streamed call

    @property
    def is_good(self) -> bool:
        """Whether the server did what it was asked, as far as the status tells."""
        return 200 <= self.status < 300

    @property
    def is_refused(self) -> bool:
        """Whether other credentials might do. An answer to HEAD has no code: 400 is an expired token."""
        return self.status in (401, 403) or (
            self.status == 400 and (self.code in _EXPIRED or not (self.code or self.body))
        )

    @property
    def is_too_much(self) -> bool:
        """Whether fewer requests are wanted. MinIO says SlowDownRead and SlowDownWrite."""
        return self.status == 429 or self.code.startswith("SlowDown")

    @property
    def is_the_stores(self) -> bool:
        """Whether the store itself says so, which then has found the signature good."""
        if self.status in (404, 409, 412, 416):
            return self.code not in ("", "NoSuchBucket") or _REQUEST_ID in self.headers
        return self.is_good

    @property
    def is_checked(self) -> bool:
        """Whether the server says that it has compared the body with its checksum."""
        return self.is_good and _CHECKSUM in self.headers

    @property
    def is_damaged(self) -> bool:
        """Whether the body that arrived was not the one that was signed."""
        return self.code in _DAMAGED

    @property
    def said(self) -> str:
        """Why it is not good, in the server's words."""
        return f"{self.status} {self.code} {self.message}".strip().rstrip(".")

    @property
    def right_region(self) -> str:
        """The bucket's region, where the answer says that it is another than the one asked in."""
        wrong = self.is_redirect or self.code in _MOVED
        bodiless = self.status == 400 and not self.body
        return self.headers.get(REGION, self.region) if wrong or bodiless else ""

    @property
    def is_redirect(self) -> bool:
        """Whether the bucket, or its server, is elsewhere."""
        return self.status in _S3_REDIRECTS

    @property
    def elsewhere(self) -> str:
        """The server that a redirect names, ``scheme://host:port`` or ``//host:port``; else ""."""
        try:
            named = urlsplit(self.headers.get("Location", "") or f"//{self.endpoint}")
        except ValueError:  # a bracket too many
            return ""
        scheme = f"{named.scheme}:" if named.scheme else ""
        return f"{scheme}//{named.netloc.rpartition('@')[2]}" if named.netloc else ""

    @property
    def date(self) -> float | None:
        """The server's clock, seconds since 1970."""
        return parse_date(self.headers.get("Date", ""))


def checksum(digest: bytes) -> dict[str, str]:
    """The header by which servers check the body; many don't compare x-amz-content-sha256 with it.

    S3 User Guide, "Checking object integrity for data uploads".
    """
    return {_CHECKSUM: b64encode(digest).decode()}


async def read_answer(call: Call, response: Response) -> Answer:
    """Read a response as far as the call wants it read."""
    if call.streamed and 200 <= response.status < 300:
        return Answer(status=response.status, headers=response.headers, response=response)
    body = b"".join([piece async for piece in arriving(response)])
    answer = Answer(status=response.status, headers=response.headers, body=body)
    return answer if answer.is_good else explained(answer)


def explained(answer: Answer) -> Answer:
    """Take code and message out of an error's body."""
    try:
        error = parse_xml(answer.body)
    except ET.ParseError:
        return answer
    return msgspec.structs.replace(
        answer,
        code=error.findtext("Code", ""),
        message=error.findtext("Message", ""),
        region=error.findtext("Region", ""),
        endpoint=error.findtext("Endpoint", ""),
    )


def problem(call: Call, answer: Answer) -> Exception:
    """Make the error for an answer that is not good, and not a verb's own business."""
    said = f"{call.what}: {answer.said}"
    if answer.code == "NoSuchBucket":
        return StoreMissing(
            f"The bucket is not there. {said}.", hint="Make it, or correct WHERRY_STORE."
        )
    if call.key is not None and is_missing(call, answer):
        return ObjectMissing(call.key)
    if answer.status == 404 and not answer.code:
        return failed(call, f"What answers is no store. {said}.", _NO_STORE)
    if answer.status in _LATER or answer.status >= 500 or answer.code == "RequestTimeout":
        return _failed(call, answer, said)
    if answer.status in _REDIRECTS:
        where = answer.elsewhere and f", at {answer.elsewhere.removeprefix('//')}, it is said"
        return StoreMissing(f"The bucket is elsewhere{where}. {said}.", hint=_ELSEWHERE)
    return StoreUnfit(f"The store can't do this. {said}.")


def is_missing(call: Call, answer: Answer) -> bool:
    """Whether the store says that there is no object of this key. An answer to HEAD has no code."""
    if call.method == "HEAD":
        return answer.status == 404 and answer.is_the_stores
    return call.method == "GET" and answer.code == "NoSuchKey"


def is_elsewhere(call: Call, answer: Answer) -> bool:
    """Whether there is no bucket here, or no store."""
    is_proxys = answer.status == 404 and not answer.code and call.method != "HEAD"
    return is_proxys or answer.status in _REDIRECTS or answer.code == "NoSuchBucket"


def etag_of(call: Call, answer: Answer) -> str:
    """The ETag that each good answer about an object has. Raises as ``failed`` where it is none."""
    etag = answer.headers.get("ETag", "")
    if not etag:
        raise failed(call, f"What answers is no store. {call.what}: no ETag.", _NO_STORE)
    return etag


def failed(call: Call, text: str, hint: str | None = None) -> StoreUnavailable:
    """Make the error for a call that may do better later."""
    kind = StoreUnavailable if call.method in ("GET", "HEAD") else OutcomeUnknown
    return kind(text, hint=hint)


def _failed(call: Call, answer: Answer, said: str) -> StoreError:
    if answer.status == 501:
        return StoreUnfit(f"The store can't do this. {said}.")
    error = failed(call, fails(said, is_too_much=answer.is_too_much))
    if isinstance(error, OutcomeUnknown):
        error.may_arrive = not answer.code  # a gateway's answer has none
    error.retry_after_s = wait_s(answer.headers)
    return error


def parse_xml(body: bytes) -> ET.Element:
    """Parse a server's XML, leaving its namespaces out. Raises ``ParseError``."""
    root = ET.fromstring(body.strip())  # noqa: S314  # expat limits what entities grow to, since 2.4.1
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def read_page(call: Call, answer: Answer, tag: str, what: str) -> ET.Element:
    """Read a page of something that a server lists.

    Args:
        tag: of its outermost element.
        what: it is, for errors.

    Raises what ``problem`` makes of the answer; ``StoreUnavailable`` where it is something else.
    """
    if not answer.is_good:
        raise problem(call, answer)
    try:
        page = parse_xml(answer.body)
    except ET.ParseError as exc:
        raise StoreUnavailable(f"{call.what}: the answer is no {what}: {exc}.") from exc
    if page.tag != tag:
        raise StoreUnavailable(f"{call.what}: the answer is no {what}, but <{page.tag}>.")
    return page
