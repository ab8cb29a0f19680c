"""What a server's answer means.

Owns: statuses, reasons, and the errors made of them. Does not own: what is done about a refusal (``sender``),
and what 412 means to a verb (``store``). Source: Cloud Storage JSON API, "HTTP status and error codes".

Between the daemon and the store there may be something that answers in its stead (an ingress without its
backend, a log-in page), with any status. So an answer that changes what is believed of the store has to bear
the store's own signs: an error in its form, an object as it describes them, an upload's id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from wherry.errors import StoreError, StoreMissing, StoreUnavailable, StoreUnfit
from wherryd.stores.base import Body, ObjectMissing, OutcomeUnknown
from wherryd.stores.gs.resources import TOO_MUCH, Resource, error_in
from wherryd.stores.http.answers import fails, wait_s
from wherryd.stores.http.sending import Readable
from wherryd.stores.http.transport import Response, arriving

_Read = TypeVar("_Read")

#: 407 is a proxy's.
_LATER = (404, 407, 408, 409, 429)
_NO_STORE = "Look whether the endpoint is the right one, and whether its server is up."
_UPLOADER = "x-guploader-uploadid"
#: As in: Provided CRC32C "…" doesn't match calculated CRC32C "…". Google's testbench says 412 to it.
_DAMAGED = re.compile(r"(crc32c|md5|hash).*(match|validation)", re.IGNORECASE | re.DOTALL)
_NO_BUCKET = re.compile(r"\bbucket (does not exist|not found)|no such bucket", re.IGNORECASE)


class Call(msgspec.Struct, frozen=True):
    """One request, before it is anybody's."""

    method: str
    key: str | None  # None: the bucket
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: Body | Readable = b""
    is_upload: bool = False  # it makes a new object, or a session
    session: str = ""  # path and query of a session, which opens it to whoever has them
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
    reason: str = ""
    message: str = ""
    is_error: bool = False  # in the store's own form
    response: Response | None = None  # of a streamed call

    @property
    def is_good(self) -> bool:
        """Whether the server did what it was asked, as far as the status tells."""
        return 200 <= self.status < 300

    @property
    def is_refused(self) -> bool:
        """Whether other credentials might do."""
        if self.status == 400:
            return "requester pays" in self.message.lower()
        return self.status == 401 or (self.status == 403 and not self.is_too_much)

    @property
    def is_too_much(self) -> bool:
        """Whether fewer requests are wanted."""
        return self.status == 429 or (self.status == 403 and self.reason in TOO_MUCH)

    @property
    def is_the_stores(self) -> bool:
        """Whether the store itself says so, which then has found the credentials good."""
        if self.status in (308, 404, 410, 412, 416):
            return self.is_error or _UPLOADER in self.headers
        return self.is_good

    @property
    def is_damaged(self) -> bool:
        """Whether the body that arrived was not the one that was meant."""
        return self.status in (400, 412) and _DAMAGED.search(self.message) is not None

    @property
    def is_without_bucket(self) -> bool:
        """Whether it is the bucket that is not there."""
        return self.status == 404 and _NO_BUCKET.search(self.message) is not None


async def read_answer(call: Call, response: Response) -> Answer:
    """Read a response as far as the call wants it read."""
    if call.streamed and 200 <= response.status < 300:
        return Answer(status=response.status, headers=response.headers, response=response)
    body = b"".join([piece async for piece in arriving(response)])
    answer = Answer(status=response.status, headers=response.headers, body=body)
    return answer if answer.is_good else explained(answer)


def explained(answer: Answer) -> Answer:
    """Take reason and message out of an error's body; of an object's bytes it is plain text."""
    error = error_in(answer.body)
    if error:
        return msgspec.structs.replace(
            answer, reason=error.reason, message=error.message, is_error=True
        )
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        return answer
    return msgspec.structs.replace(answer, message=answer.body[:200].decode(errors="replace"))


def read(call: Call, answer: Answer, kind: type[_Read]) -> _Read:
    """Take a good answer's body apart. Raises what ``problem`` makes of any other."""
    if not answer.is_good:
        raise problem(call, answer)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as exc:
        raise failed(call, f"What answers is no store. {call.what}: {exc}.", _NO_STORE) from exc


def problem(call: Call, answer: Answer) -> Exception:
    """Make the error for an answer that is not good, and not a verb's own business."""
    said = f"{call.what}: {answer.status} {answer.reason} {answer.message}".strip().rstrip(".")
    if is_missing(call, answer):
        return ObjectMissing(call.key)
    if answer.status == 404 and answer.is_the_stores:
        return StoreMissing(
            f"The bucket is not there. {said}.", hint="Make it, or correct WHERRY_STORE."
        )
    if not answer.is_the_stores and (answer.status in (404, 412) or 300 <= answer.status < 400):
        return failed(call, f"What answers is no store. {said}.", _NO_STORE)
    if answer.status in (*_LATER, 403) or answer.status >= 500:
        return _failed(call, answer, said)
    if answer.status == 400 and not answer.is_error:
        return failed(call, f"What answers is no store. {said}.", _NO_STORE)
    return StoreUnfit(f"The store can't do this. {said}.")


def is_missing(call: Call, answer: Answer) -> bool:
    """Whether the store says that there is no object of this key."""
    is_there = call.key is None or call.is_upload or answer.is_without_bucket
    return answer.status == 404 and answer.is_the_stores and not is_there


def generation_of(call: Call, answer: Answer) -> str:
    """The generation that each good answer with an object's bytes names. Raises as ``failed``."""
    generation = answer.headers.get("x-goog-generation", "")
    if not generation:
        raise failed(call, f"What answers is no store. {call.what}: no generation.", _NO_STORE)
    return generation


def created(call: Call, answer: Answer) -> Resource:
    """The object that a good answer to an upload describes. Raises as ``read``."""
    return read(call, answer, Resource)


def failed(call: Call, text: str, hint: str | None = None) -> StoreUnavailable:
    """Make the error for a call that may do better later."""
    kind = StoreUnavailable if call.method == "GET" else OutcomeUnknown
    return kind(text, hint=hint)


def _failed(call: Call, answer: Answer, said: str) -> StoreError:
    if answer.status == 501:
        return StoreUnfit(f"The store can't do this. {said}.")
    error = failed(call, fails(said, is_too_much=answer.is_too_much))
    error.retry_after_s = wait_s(answer.headers)
    return error
