"""From a set of credentials to the tokens that open a bucket on Google Cloud Storage.

Owns: asking gcloud-aio-auth (key files, workload identity, gcloud's own login, the machine's metadata), and
not asking again at each question where there are none. Does not own: which set is tried when
(``stores.credentials``, ``sender``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from wherryd.clock import Clock
from wherryd.stores.credentials import CredentialSet, CredentialSource

if TYPE_CHECKING:
    from gcloud.aio.auth import Token

READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"
READ_WRITE = "https://www.googleapis.com/auth/devstorage.read_write"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_FOLDER = "CLOUDSDK_CONFIG"
#: The library tries five times by itself; a machine that is none of Google's has no metadata server.
_RESOLVE_S = 20
_METADATA_S = 5
#: Where there was none, or it was refused, another is looked for at most this often.
_AGAIN_S = 5
_METADATA_AGAIN_S = 60


class GoogleIdentity:
    """The tokens of one set of credentials.

    Args:
        credentials: the set.
        clock: tells how long ago it was asked.
        scope: what the tokens are for.
    """

    def __init__(self, credentials: CredentialSet, clock: Clock, scope: str = READ_ONLY) -> None:
        self.credentials = credentials
        self._clock = clock
        self._scope = scope
        self._asking = anyio.Lock()
        self._source: Token | None = None
        self._token: str | None = None  # that was given last
        self._opened: float | None = None
        self._failed: float | None = None
        self._again_s = _AGAIN_S

    async def token(self) -> str | None:
        """A token that is good for a while; None where the set leads to none."""
        async with self._asking:
            if self._failed is not None and self._clock.monotonic() - self._failed < self._again_s:
                return None
            return await self._try()

    async def other_token(self, refused: str) -> str | None:
        """A token found anew, since the store refused this one; None where there is no other."""
        async with self._asking:
            if self._token == refused and self._may_open():
                await self._forget()
                await self._try()
            return self._token if self._token != refused else None

    async def note_refused(self) -> None:
        """The token was refused: the next one is found anew."""
        async with self._asking:
            await self._forget()

    async def aclose(self) -> None:
        """Give back connections."""
        async with self._asking:
            await self._forget()

    def _may_open(self) -> bool:
        return self._opened is None or self._clock.monotonic() - self._opened >= _AGAIN_S

    async def _try(self) -> str | None:
        try:
            self._token = await self._find()
            self._failed = None
        except Exception:  # noqa: BLE001 - a key file may hold anything, and a server say anything
            self._token = None
            await self._forget()
        return self._token

    async def _find(self) -> str | None:
        if self._source is None:
            self._opened = self._clock.monotonic()
            self._source = await to_thread.run_sync(_open, self.credentials, self._scope)
        is_machines = self._source.token_type.value == "gce_metadata"
        self._again_s = _METADATA_AGAIN_S if is_machines else _AGAIN_S
        with anyio.fail_after(_METADATA_S if is_machines else _RESOLVE_S):
            return await self._source.get()

    async def _forget(self) -> None:
        self._failed = self._clock.monotonic()
        source, self._source = self._source, None
        if source is not None:
            if source.acquiring is not None:
                source.acquiring.cancel()
            await source.close()


class Identities:
    """The identities of one store's or bucket's sets.

    Args:
        source: of the sets.
        clock: tells how long ago each was asked.
        scope: what the tokens are for.
    """

    def __init__(self, source: CredentialSource, clock: Clock, scope: str) -> None:
        self._source = source
        self._clock = clock
        self._scope = scope
        self._identities: dict[CredentialSet, GoogleIdentity] = {}

    async def in_order(self) -> list[GoogleIdentity]:
        """Which to try, best first; what is known of sets that are no more is forgotten."""
        before = self._identities
        found = [self._of(credentials) for credentials in self._source.in_order()]
        self._identities = {identity.credentials: identity for identity in found}
        for identity in before.values():
            if identity not in found:
                await identity.aclose()
        return found

    async def aclose(self) -> None:
        """Give back what tokens were asked for with."""
        for identity in self._identities.values():
            await identity.aclose()

    def _of(self, credentials: CredentialSet) -> GoogleIdentity:
        known = self._identities.get(credentials)
        # equal, and another object: handed over anew
        if known is None or known.credentials is not credentials:
            return GoogleIdentity(credentials, self._clock, self._scope)
        return known


def _open(credentials: CredentialSet, scope: str) -> Token:
    """Read the files, after an import that takes a tenth of a second."""
    from gcloud.aio.auth import Token

    file = _file_of(credentials)
    source = Token(service_file=file, scopes=[scope])
    if file and not source.service_data:
        raise ValueError(f"{file} holds no credentials")  # the library would take the machine's
    return source


def _file_of(credentials: CredentialSet) -> str | None:
    """The file that a client means; None: the library follows the daemon's own environment."""
    values = credentials.values or {}
    if _FOLDER in values and _FILE not in values:
        return os.path.join(values[_FOLDER], "application_default_credentials.json")
    return values.get(_FILE)
