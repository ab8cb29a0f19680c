"""Forks: a child goes on with what its parent had, and neither spoils the other's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.unit.client.recorder import Recorder

Program = Callable[..., subprocess.CompletedProcess[str]]

_START = """
import os, sys, threading, wherry
def write(name, data):
    with open(name, "wb") as file:
        file.write(data)
def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid
def join(pid):
    assert os.waitpid(pid, 0)[1] == 0
run = wherry.init(project="p", settings={"finish": "detach"})
artifact = wherry.Artifact("name", "type")
write("before", b"before" * 4000)  # a file in the spool
artifact.add_file("before")
"""


def test_child_writes_into_its_parents_file(program: Program, recorder: Recorder) -> None:
    """Parent and child may both go on with an artifact, at once; each logs its own."""
    program(
        _START
        + """
write("p", b"parent" * 1000)
write("c", b"child" * 1000)
def work():
    for n in range(50):
        artifact.add_file("c", name=f"c{n}")
    run.log_artifact(artifact)
pid = child(work)
for n in range(50):
    artifact.add_file("p", name=f"p{n}")
run.log_artifact(artifact)
join(pid)
"""
    )
    assert len(recorder.logged) == 2
    for logged in recorder.logged:
        assert len(logged.entries) == 51
        assert recorder.read["before"] == b"before" * 4000
    assert {logged.header.session for logged in recorder.logged} == {
        recorder.logged[0].header.session
    }
    assert len({logged.header.folder for logged in recorder.logged}) == 2
    assert len({logged.header.request_id for logged in recorder.logged}) == 2
    assert {recorder.read[f"p{n}"] for n in range(50)} == {b"parent" * 1000}
    assert {recorder.read[f"c{n}"] for n in range(50)} == {b"child" * 1000}


def test_child_logs_what_its_parent_built(program: Program, recorder: Recorder) -> None:
    """A child that only logs, while the parent forgets the artifact and makes others, loses nothing."""
    program(
        _START
        + """
write("big", b"b" * (2 << 20))
artifact.add_file("big")
artifact.add_file("big", name="linked", policy="immutable")
read, end = os.pipe()
kept = [artifact]
def work():
    os.read(read, 1)
    run.log_artifact(kept[0])
pid = child(work)
del artifact, kept
for _ in range(3):
    other = wherry.Artifact("other", "type")
    other.add_file("before")
os.write(end, b"x")
join(pid)
"""
    )
    assert recorder.logged[0].paths == ["before", "big", "linked"]
    assert recorder.read["big"] == recorder.read["linked"] == b"b" * (2 << 20)


def test_child_of_a_logged_artifact_is_left_with_a_riddle(
    program: Program, recorder: Recorder
) -> None:
    """Once the parent has logged it, and the daemon has used it up, the child is told so."""
    program(
        _START
        + """
import shutil
read, end = os.pipe()
def work():
    os.read(read, 1)
    try:
        run.log_artifact(artifact)
    except wherry.errors.ArtifactStateError as error:
        assert "the parent logged it" in str(error), error
    else:
        raise SystemExit("nothing was raised")
pid = child(work)
run.log_artifact(artifact)
shutil.rmtree(artifact._life.contents.spool.path())
os.write(end, b"x")
join(pid)
"""
    )
    assert len(recorder.logged) == 1


def test_child_shares_its_parents_memory(program: Program, recorder: Recorder) -> None:
    """What lies in memory is each process's own: both go on, and either may be first to log."""
    program(
        _START
        + """
for late in (False, True):
    little = wherry.Artifact(f"little{late}", "type")
    with little.new_file("both") as file:
        file.write("both")
    read, end = os.pipe()
    def work():
        with little.new_file("child") as file:
            file.write("child")
        if late:
            os.read(read, 1)
        run.log_artifact(little)
    pid = child(work)
    if not late:
        join(pid)
    with little.new_file("parent") as file:
        file.write("parent")
    run.log_artifact(little)
    os.write(end, b"x")
    if late:
        join(pid)
"""
    )
    assert [(logged.header.name, logged.paths) for logged in recorder.logged] == [
        ("littleFalse", ["both", "child"]),
        ("littleFalse", ["both", "parent"]),
        ("littleTrue", ["both", "parent"]),
        ("littleTrue", ["both", "child"]),
    ]
    assert all(not logged.header.folder for logged in recorder.logged)
    assert recorder.read == {path: path.encode() for path in ("both", "child", "parent")}


def test_fork_while_another_thread_adds_hangs(program: Program, recorder: Recorder) -> None:
    """A child that is forked in the middle of other threads' calls can log all the same."""
    program(
        _START
        + """
os.mkdir("d")
for n in range(200):
    write(f"d/{n}", bytes([n]) * 5000)
stop = threading.Event()
shared = wherry.Artifact("shared", "type")
def busy():
    while not stop.is_set():
        shared.add_dir("d", merge=True)
        run.log_artifact(one())
def one():
    own = wherry.Artifact("own", "type")
    own.add_dir("d")
    return own
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
def work():
    own = one()
    own.add_file("before")
    run.log_artifact(own)
    shared.add_file("before")
    run.log_artifact(shared)
for _ in range(15):
    join(child(work))
stop.set()
for thread in threads:
    thread.join()
"""
    )
    shared = [logged for logged in recorder.logged if logged.header.name == "shared"]
    own = [logged for logged in recorder.logged if "before" in logged.paths]
    assert len(shared) == 15
    assert len(own) == 30
    for logged in shared:
        # a whole folder, or one that was being added when the child was forked
        assert set(logged.paths) <= {"before", *map(str, range(200))}
    assert {recorder.read[str(n)] for n in range(200)} == {bytes([n]) * 5000 for n in range(200)}
    assert recorder.cut == 0


def test_child_finishes_its_parents_run(program: Program, recorder: Recorder) -> None:
    """A child that ends like a program leaves its parent's run alone."""
    done = program(
        """
import os, sys, wherry
run = wherry.init(project="p")
open("f", "w").close()
run.log_artifact("f")
if os.fork() == 0:
    sys.exit(0)
os.wait()
assert wherry.run is run
print("parent goes on")
os._exit(0)
"""
    )
    assert done.stdout == "parent goes on\n"
    assert recorder.waits == []


def test_child_ends_its_parents_block(program: Program, recorder: Recorder) -> None:
    """A child that was forked in a ``new_file`` block, and leaves it, takes nothing from the parent."""
    for how in ("pass", "sys.exit()", "g.write('child')", "g.close()"):
        program(
            _START
            + f"""
pid = 1
try:
    with artifact.new_file("y") as g:
        g.write("abc")
        pid = os.fork()
        if pid == 0:
            {how}
        else:
            assert os.waitpid(pid, 0)[1] == 0
            g.write("def")
except BaseException as error:
    if pid: raise
    expected = SystemExit if "exit" in {how!r} else wherry.errors.ArtifactStateError
    os._exit(not isinstance(error, expected))
finally:
    if pid == 0: os._exit(3)
run.log_artifact(artifact)
"""
        )
        assert recorder.read["y"] == b"abcdef", how
    assert len(recorder.logged) == 4


def test_child_reads_what_its_parent_has_logged(program: Program, recorder: Recorder) -> None:
    """An entry's digest in a child whose parent has logged the artifact is an error of ours."""
    program(
        _START
        + """
import shutil
entry, ready = artifact.get_entry("before"), os.pipe()
def work():
    os.read(ready[0], 1)
    try: entry.digest
    except wherry.errors.ArtifactStateError: return
    sys.exit("no error")
pid = child(work)
run.log_artifact(artifact)
shutil.rmtree(artifact._life.contents.spool.path())  # as the daemon does
os.write(ready[1], b"1")
join(pid)
"""
    )
