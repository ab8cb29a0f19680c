"""A program that knows of Wherry nothing but the protos, and what gRPC's own generator makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess

_PROTOS = Path(__file__).resolve().parents[3] / "protos"

PROGRAM = """
import json, sys, uuid
import grpc
from wherry.v1 import wherry_pb2 as pb, wherry_pb2_grpc

def parts(name):
    run, id = pb.Run(id="run1"), str(uuid.uuid4())
    entries = [pb.Entry(path=path, size=3, data=b"abc") for path in ("a", "b/c")]
    header = pb.LogHeader(request_id=id, project="cats", name=name, type="t", run=run)
    return header, pb.EntryBatch(entries=entries), pb.LogEnd(entries=2)

def log(name):
    header, entries, end = parts(name)
    yield pb.LogMessage(header=header)
    yield pb.LogMessage(entries=entries)
    yield pb.LogMessage(end=end)

def log_many(name):
    header, entries, end = parts(name)
    yield pb.LogWhole(header=header, entries=entries, end=end)

with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:
    daemon = wherry_pb2_grpc.DaemonStub(channel)
    hello = daemon.Hello(pb.HelloRequest(client="somebody", protocol=99), timeout=20)
    one = daemon.Log(log("one"), timeout=20)
    (other,) = daemon.LogMany(log_many("other"), timeout=20)
    ids = [one.request_id, other.request_id]
    ended = [state for state in daemon.Wait(pb.WaitRequest(request_ids=ids), timeout=60) if state.last]
    version = daemon.GetVersion(pb.GetVersionRequest(project="cats", name="one", version="v0"), timeout=20)
    asked = pb.ReadFilesRequest(project="cats", manifest=version.manifest, paths=["b/c"])
    (chunk,) = daemon.ReadFiles(asked, timeout=20)
    try:
        daemon.GetVersion(pb.GetVersionRequest(project="cats", name="none", version="v0"), timeout=20)
    except grpc.RpcError as error:
        refused = error.code().name, dict(error.trailing_metadata())["wherry-error"]

print(json.dumps({
    "hello": [hello.pid, hello.home],
    "places": [one.place, other.place],
    "ended": sorted([state.name, state.state, state.version] for state in ended),
    "chunk": [chunk.path, chunk.data.decode(), chunk.last],
    "refused": refused,
    "whose": list(sys.modules["wherry"].__path__),
}))
"""


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A folder with the generated code, in a package that hides ours."""
    made = tmp_path / "stub"
    made.mkdir()
    generator = [sys.executable, "-m", "grpc_tools.protoc", f"-I{_PROTOS}"]
    places = [f"--python_out={made}", f"--grpc_python_out={made}", "wherry/v1/wherry.proto"]
    subprocess.run([*generator, *places], check=True)
    for package in ("wherry", "wherry/v1"):
        (made / package / "__init__.py").touch()
    return made


def test_a_generated_stub_is_not_understood(home: Path, stub: Path) -> None:
    """The daemon speaks gRPC with a stub that was made of the protos: one message and many, each way."""
    with DaemonProcess(home) as daemon:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(daemon.socket)],
            env={**os.environ, "PYTHONPATH": str(stub)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "hello": [daemon.pid, str(home)],
            "places": [1, 2],
            "ended": [["one", "done", 0], ["other", "done", 0]],
            "chunk": ["b/c", "abc", True],
            "refused": ["NOT_FOUND", "NotFoundError"],
            "whose": [str(stub / "wherry")],
        }
