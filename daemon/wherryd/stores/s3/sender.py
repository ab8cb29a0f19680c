"""One request: with which credentials, at what time, in which region.

Owns: what is done when the server refuses a request without having acted on it: other keys, the server's
clock, the bucket's region; each at most once per call. Does not own: answers that are no refusal; those,
and missing answers, are never met by sending again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from wherry.errors import AccessRefused
from wherry.wire.address import split_store
from wherryd.clock import Clock
from wherryd.stores.base import FileBody
from wherryd.stores.credentials import ANONYMOUS, CredentialSet, CredentialSource
from wherryd.stores.s3.answers import Answer, Call, read_answer
from wherryd.stores.s3.identity import Identity, Keys
from wherryd.stores.s3.place import Place, find_place, move
from wherryd.stores.s3.signing import sign
from wherryd.stores.s3.transport import Request, Transport

_SKEW_S = 60
_HINT = (
    "Give it good ones as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE in the environment of "
    "any program that uses Wherry, or of `wherry status`: they are handed to the daemon."
)


class Sender:
    """Signs and sends for one store.

    Args:
        address: of the store.
        credentials: its sets.
        clock: the machine's; the server's may differ.
    """

    def __init__(self, address: str, credentials: CredentialSource, clock: Clock) -> None:
        self._address = address
        self._credentials = credentials
        self._clock = clock
        self._transport = Transport()
        self._identities: dict[CredentialSet, Identity] = {}
        self._finding = anyio.Lock()
        self._place: Place | None = None
        self._skew_s = 0.0

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

    async def find_prefix(self) -> str:
        """What every key of the bucket begins with here."""
        return (await self._find_place()).prefix

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._transport.aclose()

    async def _send(self, call: Call, stack: AsyncExitStack) -> Answer:
        refusals: list[str] = []
        codes: list[str | None] = []
        for credential_set in self._credentials.in_order():
            answer, why = await self._send_as(credential_set, call, stack)
            if answer and not answer.is_refused:
                self._credentials.note_worked(credential_set)
                return answer
            refusals.append(f"{credential_set}: {why}")
            codes.append(_code_of(answer, credential_set))
        raise AccessRefused(
            f"The store {self._address} refuses {call.what}: {'; '.join(refusals)}.",
            hint=_HINT,
            codes=tuple(codes),
        )

    async def _send_as(
        self, credential_set: CredentialSet, call: Call, stack: AsyncExitStack
    ) -> tuple[Answer | None, str]:
        """Send with the keys of a set, and if those are refused, with its newer ones.

        Returns:
            the last answer, None where the set has no keys; and why it is none that will do.
        """
        identity = self._identity(credential_set)
        keys = await identity.keys()
        answer, why = None, identity.why_none
        while keys:
            answer = await self._send_corrected(keys, call, stack)
            if not answer.is_refused:
                return answer, ""
            why = f"{answer.status} {answer.code}".strip()
            keys = await identity.other_keys(keys)
        return answer, why

    async def _send_corrected(self, keys: Keys, call: Call, stack: AsyncExitStack) -> Answer:
        place = await self._find_place()
        answer = await self._send_once(place, keys, call, stack)
        region = answer.right_region
        if region and region != place.region:
            self._place = place = await move(place, region)
            answer = await self._send_once(place, keys, call, stack)
        if answer.is_refused and self._correct_clock(answer):
            answer = await self._send_once(place, keys, call, stack)
        return answer

    async def _send_once(
        self, place: Place, keys: Keys, call: Call, stack: AsyncExitStack
    ) -> Answer:
        url = place.url(call.key, call.query)
        headers = sign(
            call.method,
            url,
            call.headers,
            sha256=call.digest.hex(),
            keys=keys,
            region=place.region,
            now=self._clock.now() + self._skew_s,
        )
        if call.body:
            size = call.body.size if isinstance(call.body, FileBody) else len(call.body)
            headers["Content-Length"] = str(size)
        request = Request(method=call.method, url=url, headers=headers, body=call.body)
        return await read_answer(
            call, await stack.enter_async_context(self._transport.send(request))
        )

    def _correct_clock(self, answer: Answer) -> bool:
        """Take the server's time; whether that is another than the one signed with.

        Error code RequestTimeTooSkewed, which an answer to HEAD can't have.
        """
        if answer.date is None or answer.code not in ("", "RequestTimeTooSkewed"):
            return False
        before, self._skew_s = self._skew_s, answer.date - self._clock.now()
        return abs(self._skew_s - before) > _SKEW_S

    def _identity(self, credential_set: CredentialSet) -> Identity:
        known = self._identities
        if credential_set not in known:
            kept = self._credentials.in_order()
            self._identities = {one: known[one] for one in kept if one in known}
            self._identities[credential_set] = Identity(credential_set, self._clock)
        return self._identities[credential_set]

    async def _find_place(self) -> Place:
        if self._place is None:
            async with self._finding:
                if self._place is None:
                    self._place = await find_place(split_store(self._address), self._credentials)
        return self._place


def _code_of(answer: Answer | None, credential_set: CredentialSet) -> str | None:
    """What a refusal says of the keys: nothing, where there were none to refuse."""
    if answer is None or (credential_set == ANONYMOUS and answer.code in ("", "AccessDenied")):
        return None
    return answer.code
