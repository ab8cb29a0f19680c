"""Questions to Google Cloud Storage, by its JSON API.

Owns: requests, with which credentials they go out, what a refusal means. Does not own: URIs and what is
made of the answers (``gs``), what they look like (``gs_answers``), tokens (``gs_identity``). Source: Cloud
Storage JSON API, "Objects: get", "Objects: list", "HTTP status and error codes".

Against an emulator (an address with ``endpoint_url``) no credentials are used. Which project pays for a
bucket of which the requester pays stands beside the credentials, as GDAL's users write it:
``GS_USER_PROJECT``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from wherry.errors import ReferenceFailed, ReferenceUnavailable, WherryError
from wherry.wire.address import StoreAddress
from wherryd.clock import Clock
from wherryd.references.answers import refusal
from wherryd.references.gs_answers import Item, Listed, body_of, reason_of
from wherryd.references.gs_identity import GoogleIdentity
from wherryd.references.http import translated
from wherryd.references.session import Session
from wherryd.stores.credentials import ANONYMOUS, CredentialSet, CredentialSource, OrAnonymous

_Answer = TypeVar("_Answer")

_GOOGLE = "https://storage.googleapis.com"
_FIELDS = "name,size,crc32c,md5Hash,generation"
#: Objects that are kept compressed are given as they are.
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip"}
_PAYER = "GS_USER_PROJECT"
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
        endpoint = address.options.get("endpoint_url", "")
        bucket = quote(address.bucket, safe="")
        self._base = f"{endpoint or _GOOGLE}/storage/v1/b/{bucket}/o"
        self._is_emulated = bool(endpoint)
        self._source = OrAnonymous(source)
        self._session = session
        self._clock = clock
        self._identities: dict[CredentialSet, GoogleIdentity] = {}

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
        for identity in self._identities.values():
            await identity.aclose()

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
            for credentials in self._sets():
                token = await self._token(credentials)
                if token is None and credentials != ANONYMOUS:
                    continue
                url = self._url(key, {**query, **_paid_by(credentials)})
                response = await self._session.request(
                    "GET", url, {**_headers(token), **(more or {})}
                )
                async with response:
                    if response.status not in (401, 403):
                        self._source.note_worked(credentials)
                        yield response
                        return
                    self._source.note_refused(credentials)
                    if response.status == 401 and credentials != ANONYMOUS:
                        await self._identities[credentials].note_refused()
                        refused.append(None)
                    elif credentials != ANONYMOUS:
                        refused.append(await self._refusal(response, asked))
        raise _refused(refused, asked)

    def _sets(self) -> list[CredentialSet]:
        return [ANONYMOUS] if self._is_emulated else self._source.in_order()

    async def _token(self, credentials: CredentialSet) -> str | None:
        if credentials == ANONYMOUS:
            return None
        if credentials not in self._identities:
            self._identities[credentials] = GoogleIdentity(credentials, self._clock)
        return await self._identities[credentials].token()

    def _url(self, key: str | None, query: Mapping[str, str]) -> URL:
        path = "" if key is None else f"/{quote(key, safe='')}"
        pairs = "&".join(f"{name}={quote(text, safe=',()')}" for name, text in query.items())
        return URL(f"{self._base}{path}?{pairs}", encoded=True)

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


def _headers(token: str | None) -> dict[str, str]:
    return _HEADERS if token is None else {**_HEADERS, "Authorization": f"Bearer {token}"}


def _paid_by(credentials: CredentialSet) -> dict[str, str]:
    """Which project pays (Cloud Storage, "Requester Pays"); nobody who is unknown can."""
    values = os.environ if credentials.values is None else credentials.values
    payer = values.get(_PAYER, "")
    return {"userProject": payer} if payer else {}


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
