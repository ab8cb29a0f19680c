"""The calls of ``wherry.v1.Daemon`` as gRPC handlers, made from the protos' descriptor.

Owns: how a call is counted, and how its error is told. Does not own: what the calls do.

A handler is a coroutine function of the call's name:
one message in, one out: ``(request) -> reply``; many in: ``(messages) -> reply``;
many out: ``(request, send) -> None``; many both ways, an answer to each: ``(request) -> reply``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

import anyio
import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from wherry.errors import WherryError
from wherry.wire import wherry_pb2 as pb
from wherryd.life import Life
from wherryd.log import get_logger
from wherryd.rpc.status import code_of, trailer_of

SERVICE = pb.DESCRIPTOR.services_by_name["Daemon"]

_log = get_logger("rpc")
Handler = Callable[..., Awaitable[Message | None]]
Send = Callable[[Message], Awaitable[None]]


class _HungUp(Exception):
    """The client went away; nobody is there for the rest, or for an error."""


class Call(Protocol):
    """What gRPC gives a handler to speak with."""

    async def write(self, message: Message) -> None:
        """Send one of many replies; returns when there is room for the next."""
        ...

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> None:
        """End the call with an error; raises."""
        ...


def make_handlers(
    calls: Mapping[str, Handler], life: Life
) -> grpc.GenericRpcHandler[Message, Message]:
    """Make the handlers of all calls of the service.

    Args:
        calls: by their names in the protos; every one must be there.
    """
    methods = {
        method.name: _make_handler(method, calls[method.name], life) for method in SERVICE.methods
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


def _make_handler(
    method: MethodDescriptor, handler: Handler, life: Life
) -> grpc.RpcMethodHandler[Message, Message]:
    reads = GetMessageClass(method.input_type).FromString
    writes = GetMessageClass(method.output_type).SerializeToString

    async def one_out(request: Message | AsyncIterator[Message], call: Call) -> Message | None:
        return await _told(handler(request), method.name, call, life)

    async def many_out(request: Message, call: Call) -> None:
        await _told(handler(request, _sender(call)), method.name, call, life)

    async def each_in_turn(requests: AsyncIterator[Message], call: Call) -> None:
        send = _sender(call)
        async for request in requests:
            # Each counts as a call of its own: between two of them nothing is under way.
            await _told(_answer(handler, request, send), method.name, call, life)

    if method.server_streaming and method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(each_in_turn, reads, writes)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(many_out, reads, writes)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(one_out, reads, writes)
    return grpc.unary_unary_rpc_method_handler(one_out, reads, writes)


async def _answer(handler: Handler, request: Message, send: Send) -> None:
    reply = await handler(request)
    assert reply is not None
    await send(reply)


def _sender(call: Call) -> Send:
    """Make what sends one reply whole, also where a failure beside it cancels the sender.

    gRPC core refuses a status while a message is under way (GRPC_CALL_ERROR_TOO_MANY_OPERATIONS), and
    the client would wait for the end of the call for ever.
    """

    async def send(message: Message) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await call.write(message)
        except grpc.aio.InternalError as error:
            raise _HungUp from error

    return send


async def _told(
    work: Awaitable[Message | None], name: str, call: Call, life: Life
) -> Message | None:
    """Do the work of a call; its error becomes the call's status."""
    with life.call():
        try:
            return await work
        except _HungUp:
            raise anyio.get_cancelled_exc_class() from None  # as gRPC itself ends such a call
        except WherryError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  (one call's defect ends that call alone)
            _log.exception("call failed", call=name)
            text = f"the daemon failed in {name}: {type(error).__name__}: {error}"
            failure = WherryError(text, hint="'wherry daemon logs' has the details")
        await call.abort(code_of(failure), str(failure), trailer_of(failure))
        raise AssertionError("abort raises")
