"""One request: with which credentials and so to which place, at what time, in which region.

Owns: what is done when the server refuses a request without having acted on it: other keys, the server's
clock, the bucket's region, the server that a redirect names; each at most once per call; who checks that a
body's bytes are the right ones: a server that has once said that it does, else we, as they leave. Does not
own: answers that are no refusal; those, and missing answers, are never met by sending again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from wherry.errors import AccessRefused, StoreUnavailable
from wherry.wire.address import split_store
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.stores.base import Body
from wherryd.stores.bodies import Checked
from wherryd.stores.credentials import ANONYMOUS, CredentialSet, CredentialSource
from wherryd.stores.http.sending import Readable
from wherryd.stores.http.transport import Request, Transport
from wherryd.stores.s3.answers import REGION, Answer, Call, is_elsewhere, read_answer
from wherryd.stores.s3.identity import Keys
from wherryd.stores.s3.place import NoPlace, Place, follow, prefix_of
from wherryd.stores.s3.signing import sign
from wherryd.stores.s3.ways import Way, Ways
from wherryd.stores.traffic import Traffic

_log = get_logger("stores")

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
        traffic: what all requests share; None: nothing is shared.
    """

    def __init__(
        self,
        address: str,
        credentials: CredentialSource,
        clock: Clock,
        traffic: Traffic | None = None,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._clock = clock
        self._ways = Ways(split_store(address), credentials, clock)
        self._transport = Transport(traffic or Traffic(clock), "AWS_CA_BUNDLE")
        self._skew_s = 0.0
        #: The bases of places whose server has said that it compares bodies with their checksums.
        self._checking: set[str] = set()

    async def send(self, call: Call) -> Answer:
        """Send a call and read the answer whole. Raises as ``open``."""
        return await self._send(call, None)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[Answer, None]:
        """Send a call; give the answer, whose body may be unread.

        Raises:
            AccessRefused: no set of credentials will do.
            StoreUnavailable, OutcomeUnknown, FileChanged, FileUnreadable: as ``Transport.send``.
        """
        async with AsyncExitStack() as stack:
            yield await self._send(call, stack)

    @property
    def prefix(self) -> str:
        """What every key of the bucket begins with here."""
        return prefix_of(split_store(self._address))

    async def takes_sums(self) -> bool:
        """Whether the server, by its traits, takes checksums in headers and lists of parts."""
        for way in self._ways.in_order():
            with suppress(NoPlace):
                return (await way.place()).traits.takes_sums
        return False

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._transport.aclose()

    async def _send(self, call: Call, stack: AsyncExitStack | None) -> Answer:
        """Send a call; without a stack, on which the response stays open, the answer is read whole."""
        refusals: list[str] = []
        codes: list[str | None] = []
        ways = self._ways.in_order()
        for way in ways:
            answer, why = await self._send_by(way, call, stack)
            if answer and not answer.is_refused:
                return answer
            self._credentials.note_refused(way.credentials)
            refusals.append(f"{way.credentials}: {why}")
            codes.append(_code_of(answer, way.credentials))
        for way in ways:
            way.doubt()
        raise AccessRefused(
            f"The store {self._address} refuses {call.what}: {'; '.join(refusals)}.",
            hint=_HINT,
            codes=tuple(codes),
        )

    async def _send_by(
        self, way: Way, call: Call, stack: AsyncExitStack | None
    ) -> tuple[Answer | None, str]:
        """Send with the keys of a set, and if those are refused, with its newer ones.

        Returns:
            the last answer, None where the set has no keys; and why it is none that will do.
        """
        try:
            answer, why = await self._send_as(way, call, stack)
        except NoPlace as exc:
            return None, str(exc).rstrip(".")
        except StoreUnavailable:
            way.doubt()
            raise
        if answer and not answer.is_refused and answer.is_the_stores:
            self._credentials.note_worked(way.credentials)
        elif answer and not answer.is_refused and is_elsewhere(call, answer):
            way.doubt()
        return answer, why

    async def _send_as(
        self, way: Way, call: Call, stack: AsyncExitStack | None
    ) -> tuple[Answer | None, str]:
        identity = way.identity
        keys = await identity.keys()
        answer, why = None, identity.why_none
        while keys:
            answer = await self._send_corrected(way, keys, call, stack)
            if not answer.is_refused:
                return answer, ""
            why = answer.said
            keys = await identity.other_keys(keys)
        return answer, why

    async def _send_corrected(
        self, way: Way, keys: Keys, call: Call, stack: AsyncExitStack | None
    ) -> Answer:
        place, skew_s = await way.place(), self._skew_s
        answer = await self._send_once(place, keys, skew_s, call, stack)
        region = answer.right_region
        if answer.is_redirect and not region:
            region = await self._ask_region(place, keys, skew_s)
        if region and region != place.region:
            place = await way.move(place, region)
            answer = await self._send_once(place, keys, skew_s, call, stack)
        # Not kept: "Do not reuse an endpoint provided by a previous redirect response" (S3 User Guide).
        if answer.is_redirect and (other := follow(place, answer.elsewhere)):
            place = other
            answer = await self._send_once(place, keys, skew_s, call, stack)
        if answer.is_refused and self._correct_clock(answer, skew_s):
            answer = await self._send_once(place, keys, self._skew_s, call, stack)
        return answer

    async def _ask_region(self, place: Place, keys: Keys, skew_s: float) -> str:
        """Ask for the bucket's region, which its server tells even to whom it refuses all else."""
        call = Call(method="HEAD", key=None)
        answer = await self._send_once(place, keys, skew_s, call, None)
        return answer.headers.get(REGION, "")

    async def _send_once(
        self, place: Place, keys: Keys, skew_s: float, call: Call, stack: AsyncExitStack | None
    ) -> Answer:
        url = place.url(call.key, call.query)
        sums = call.sums if place.traits.takes_sums else {}
        headers = sign(
            call.method,
            url,
            {**call.headers, **sums},
            sha256=call.digest.hex(),
            keys=keys,
            region=place.region,
            now=self._clock.now() + skew_s,
        )
        if call.body:
            size = len(call.body) if isinstance(call.body, bytes) else call.body.size
            headers["Content-Length"] = str(size)
        request = Request(
            method=call.method,
            url=url,
            headers=headers,
            body=self._body(call, place),
            is_large=call.is_large,
        )
        read = partial(read_answer, call)
        if stack is None:
            answer = await self._transport.exchange(request, read)
        else:
            arrival = await stack.enter_async_context(self._transport.send(request))
            answer = await read(arrival.response)
        if call.body and answer.is_checked:  # who reads is told what was sent once, checked or not
            self._checking.add(place.base)
        return answer

    def _body(self, call: Call, place: Place) -> Body | Readable:
        if isinstance(call.body, bytes) or place.base in self._checking:
            return call.body
        return Checked(call.body)

    def _correct_clock(self, answer: Answer, skew_s: float) -> bool:
        """Take the server's time; whether that is another than the one signed with, ``skew_s`` from ours.

        Error code RequestTimeTooSkewed, which an answer to HEAD can't have.
        """
        if answer.date is None or answer.code not in ("", "RequestTimeTooSkewed"):
            return False
        before, self._skew_s = self._skew_s, answer.date - self._clock.now()
        if abs(self._skew_s - before) > _SKEW_S:
            ahead_s = round(self._skew_s)
            _log.warning("the server's clock is signed with", store=self._address, ahead_s=ahead_s)
        return abs(self._skew_s - skew_s) > _SKEW_S


def _code_of(answer: Answer | None, credential_set: CredentialSet) -> str | None:
    """What a refusal says of the keys: nothing, where there were none to refuse."""
    if answer is None or (credential_set == ANONYMOUS and answer.code in ("", "AccessDenied")):
        return None
    return answer.code
