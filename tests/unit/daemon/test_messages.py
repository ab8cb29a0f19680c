"""What comes in as messages, and is out of range."""

from __future__ import annotations

import uuid

import pytest

from wherry.errors import ProtocolError
from wherry.wire import PROTOCOL
from wherry.wire import wherry_pb2 as pb
from wherryd.model import Base
from wherryd.rpc.messages import header_of


def base_of(base: pb.Base) -> Base | None:
    """What the daemon takes for the base of a request."""
    run = pb.Run(id="run")
    header = pb.LogHeader(
        request_id=str(uuid.uuid4()), project="cats", name="a", type="t", run=run, base=base
    )
    return header_of(header, "s3://bucket").base


def test_half_a_base_is_whichever_version_comes_before() -> None:
    """Only an empty message leaves open what is changed."""
    manifest = "sha256:" + "0" * 64
    assert base_of(pb.Base()) == Base()
    assert base_of(pb.Base(project="cats", version=3, manifest=manifest)) == Base(3, manifest)
    for half in (pb.Base(version=3), pb.Base(project="cats"), pb.Base(manifest="x")):
        with pytest.raises(ProtocolError):
            base_of(half)


def test_a_daemon_that_knows_no_base_is_asked_for_one() -> None:
    """A daemon of before there were bases speaks an older protocol, and gives way to a newer one."""
    assert PROTOCOL >= 8
