"""One request: with which credentials.

Owns: what is done when the server refuses a request without having acted on it: a newer token, another set;
each at most once per call. Does not own: answers that are no refusal; those, and missing answers, are never
met by sending again.

A session's URI opens it to whoever has it: its requests bear no token.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from wherry.errors import AccessRefused
from wherry.wire.address import split_store
from wherryd.clock import Clock
from wherryd.stores.credentials import CredentialSource
from wherryd.stores.gs.answers import Answer, Call, read_answer
from wherryd.stores.gs.identity import READ_WRITE, GoogleIdentity, Identities
from wherryd.stores.gs.place import paid_by, place_of
from wherryd.stores.http.transport import Request, Transport
from wherryd.stores.traffic import Traffic

_NO_TOKEN = "they lead to no token"  # noqa: S105 - it is none
_HINT = (
    "Give it good ones: GOOGLE_APPLICATION_CREDENTIALS in the environment of any program that uses Wherry, or "
    "of `wherry status`; or for the user who runs the daemon: gcloud auth application-default login. Where "
    "the requester pays, GS_USER_PROJECT names who."
)


class Sender:
    """Sends for one store.

    Args:
        address: of the store.
        credentials: its sets.
        clock: tells how long ago tokens were asked for.
        traffic: what all requests share; None: nothing is shared.
    """

    def __init__(
        self,
        address: str,
        credentials: CredentialSource,
        clock: Clock,
        traffic: Traffic | None = None,
    ) -> None:
        parts = split_store(address)
        self._address = address
        self._place = place_of(parts)
        self._credentials = credentials
        self._identities = Identities(credentials, clock, READ_WRITE)
        self._transport = Transport(traffic or Traffic(clock))
        #: What every key of the bucket begins with here.
        self.prefix = parts.path and f"{parts.path}/"

    async def send(self, call: Call) -> Answer:
        """Send a call and read the answer whole. Raises as ``open``."""
        async with self.open(call) as answer:
            return answer

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[Answer, None]:
        """Send a call; give the answer, whose body may be unread.

        Raises:
            AccessRefused: no set of credentials will do.
            StoreUnavailable, OutcomeUnknown, FileChanged, FileUnreadable: as ``Transport.send``.
        """
        async with AsyncExitStack() as stack:
            yield await self._send(call, stack)

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._identities.aclose()
        await self._transport.aclose()

    async def _send(self, call: Call, stack: AsyncExitStack) -> Answer:
        if self._place.is_emulated or call.session:
            answer = await self._send_once(call, {}, None, stack)
            if answer.is_refused:
                raise self._refused(call, [f"no credentials: {_said(answer)}"])
            return answer
        refusals: list[str] = []
        for identity in await self._identities.in_order():
            found = await self._send_as(identity, call, stack)
            if found and not found.is_refused:
                if found.is_the_stores:
                    self._credentials.note_worked(identity.credentials)
                return found
            self._credentials.note_refused(identity.credentials)
            refusals.append(f"{identity.credentials}: {_said(found) if found else _NO_TOKEN}")
        raise self._refused(call, refusals)

    async def _send_as(
        self, identity: GoogleIdentity, call: Call, stack: AsyncExitStack
    ) -> Answer | None:
        """Send with a set's token, and if that is refused, with a newer one; None where it has none."""
        token = await identity.token()
        answer = None
        while token:
            answer = await self._send_once(call, paid_by(identity.credentials), token, stack)
            if answer.status != 401:
                break
            token = await identity.other_token(token)
        return answer

    async def _send_once(
        self, call: Call, payer: dict[str, str], token: str | None, stack: AsyncExitStack
    ) -> Answer:
        headers = dict(call.headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if call.body:
            size = len(call.body) if isinstance(call.body, bytes) else call.body.size
            headers["Content-Length"] = str(size)
        request = Request(
            method=call.method,
            url=self._url(call, payer),
            headers=headers,
            body=call.body,
            is_large=call.is_large,
        )
        arrival = await stack.enter_async_context(self._transport.send(request))
        answer = await read_answer(call, arrival.response)
        if answer.is_too_much:
            arrival.asked.too_much()
        return answer

    def _url(self, call: Call, payer: dict[str, str]) -> str:
        if call.session:
            return self._place.session(call.session)
        query = {**call.query, **payer}
        if call.is_upload:
            return self._place.uploads(query)
        return self._place.objects(None if call.key is None else self.prefix + call.key, query)

    def _refused(self, call: Call, refusals: list[str]) -> AccessRefused:
        return AccessRefused(
            f"The store {self._address} refuses {call.what}: {'; '.join(refusals)}.", hint=_HINT
        )


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.message or answer.reason}".strip().rstrip(".")
