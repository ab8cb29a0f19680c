"""Questions to Google Cloud Storage, by its JSON API.

Owns: requests, with which credentials they go out, what a refusal means. Does not own: URIs and what is
made of the answers (``gs``), what they look like (``gs_answers``), URLs and tokens (``wherryd.stores.gs``).
Source: Cloud Storage JSON API, "Objects: get", "Objects: list", "HTTP status and error codes".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from wherry.errors import ReferenceFailed, ReferenceUnavailable, WherryError
from wherry.wire.address import StoreAddress
from wherryd.clock import Clock
from wherryd.references.answers import refusal
from wherryd.references.gs_answers import Item, Listed, body_of, is_too_much, reason_of
from wherryd.references.http import translated
from wherryd.references.session import Session
from wherryd.stores.credentials import ANONYMOUS, CredentialSource, OrAnonymous
from wherryd.stores.gs.identity import READ_ONLY, GoogleIdentity, Identities
from wherryd.stores.gs.place import paid_by, place_of
from wherryd.stores.http.answers import retry_after_s

_Answer = TypeVar("_Answer")

_FIELDS = "name,size,crc32c,md5Hash,generation"
#: Objects that are kept compressed are given as they are.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip"}
_PAYER_HINT = "GS_USER_PROJECT names the project that pays, in the environment of the program that logs or reads."
_CREDENTIALS = (
    "Give it good ones: GOOGLE_APPLICATION_CREDENTIALS in the environment of any program that uses Wherry, or "
    "for the user who runs the daemon: gcloud auth application-default login"
)


class Asked(msgspec.Struct, frozen=True):
    """About what a server is asked, as users know it."""

    uri: str
    host: str


class GoogleBucket:
    """A bucket.

    Args:
        address: of the bucket, with the option ``endpoint_url`` or without.
        source: its sets of credentials.
        session: whose connections are used.
    """

    def __init__(
        self, address: StoreAddress, source: CredentialSource, session: Session, clock: Clock
    ) -> None:
        self._place = place_of(address)
        self._source = OrAnonymous(source)
        self._session = session
        self._clock = clock
        self._identities = Identities(self._source, clock, READ_ONLY)

    async def find(self, key: str, generation: str | None, asked: Asked) -> Item | None:
        """Ask about one object; None where there is none. Raises as ``open``."""
        query = {"fields": _FIELDS, **_pinned(generation)}
        async with self._ask(key, query, asked) as response:
            if response.status == 404:
                return None
            return await self._read(response, Item, asked)

    async def list_below(self, prefix: str, place: Mapping[str, str], asked: Asked) -> Listed:
        """Ask for a page of what lies below a prefix, from a ``pageToken`` or ``startOffset`` on."""
        query = {"prefix": prefix, "fields": f"nextPageToken,items({_FIELDS})", **place}
        async with self._ask(None, query, asked) as response:
            if response.status == 404 and await reason_of(response) is not None:
                raise ReferenceFailed(
                    f"the bucket of {asked.uri} is not there",
                    hint="Look whether its name is right.",
                )
            return await self._read(response, Listed, asked)

    @asynccontextmanager
    async def open(
        self, key: str, generation: str | None, asked: Asked, start: int = 0
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Ask for an object's bytes, from ``start`` on; a 404 is the caller's.

        Raises ``ReferenceFailed``, ``ReferenceUnavailable``.
        """
        query = {"alt": "media", **_pinned(generation)}
        part = {"Range": f"bytes={start}-"} if start else {}
        async with self._ask(key, query, asked, part) as response:
            if response.status not in (200, 206, 404):
                raise await self._refusal(response, asked)
            yield response

    async def aclose(self) -> None:
        """Give back what tokens were asked for with."""
        await self._identities.aclose()

    @asynccontextmanager
    async def _ask(
        self,
        key: str | None,
        query: Mapping[str, str],
        asked: Asked,
        more: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send with the first credentials that are not refused.

        Args:
            more: further headers.
        """
        refused: list[WherryError | None] = []  # None: the keys themselves
        with translated(asked.uri, asked.host):
            for identity in await self._all():
                credentials = identity.credentials
                token = await identity.token() if credentials != ANONYMOUS else None
                if token is None and credentials != ANONYMOUS:
                    continue
                query_paid = {**query, **paid_by(credentials)}
                url = URL(self._place.objects(key, query_paid), encoded=True)
                response = await self._session.request(
                    "GET", url, {**_headers(token), **(more or {})}
                )
                async with response:
                    if response.status not in (401, 403):
                        self._source.note_worked(credentials)
                        yield response
                        return
                    if await is_too_much(response):
                        raise await self._too_much(response, asked)
                    self._source.note_refused(credentials)
                    if response.status == 401 and credentials != ANONYMOUS:
                        await identity.note_refused()
                        refused.append(None)
                    elif credentials != ANONYMOUS:
                        refused.append(await self._refusal(response, asked))
        raise _refused(refused, asked)

    async def _all(self) -> list[GoogleIdentity]:
        if self._place.is_emulated:
            return [GoogleIdentity(ANONYMOUS, self._clock)]
        return await self._identities.in_order()

    async def _read(
        self, response: aiohttp.ClientResponse, kind: type[_Answer], asked: Asked
    ) -> _Answer:
        if response.status != 200:
            raise await self._refusal(response, asked)
        try:
            return msgspec.json.decode(await body_of(response), type=kind)
        except msgspec.DecodeError as error:
            raise ReferenceUnavailable(
                f"what answers for {asked.uri} is no Google Cloud Storage: {error}", host=asked.host
            ) from error

    async def _refusal(self, response: aiohttp.ClientResponse, asked: Asked) -> WherryError:
        error = refusal(asked.uri, asked.host, response.status, response.headers, self._clock.now())
        if isinstance(error, ReferenceUnavailable):
            return error
        reason = await reason_of(response)
        if reason is None:
            return ReferenceUnavailable(
                f"what answers {response.status} for {asked.uri} is no Google Cloud Storage",
                host=asked.host,
            )
        hint = _PAYER_HINT if "requester pays" in reason.lower() else error.hint
        return ReferenceFailed(f"{error.message}: {reason}", hint=hint)

    async def _too_much(
        self, response: aiohttp.ClientResponse, asked: Asked
    ) -> ReferenceUnavailable:
        return ReferenceUnavailable(
            f"{asked.host} answers {response.status} for {asked.uri}: {await reason_of(response)}",
            host=asked.host,
            retry_after_s=retry_after_s(response.headers.get("Retry-After"), self._clock.now()),
        )


def _headers(token: str | None) -> dict[str, str]:
    return _HEADERS if token is None else {**_HEADERS, "Authorization": f"Bearer {token}"}


def _pinned(generation: str | None) -> dict[str, str]:
    return {"generation": generation} if generation else {}


def _refused(refused: list[WherryError | None], asked: Asked) -> WherryError:
    """The error where no credentials would do; final where good ones were refused."""
    final = next((error for error in refused if error is not None), None)
    if final is not None:
        return final
    why = "refuses the credentials for" if refused else "wants credentials, and there are none, for"
    return ReferenceUnavailable(
        f"{asked.host} {why} {asked.uri}", hint=_CREDENTIALS, host=asked.host
    )
