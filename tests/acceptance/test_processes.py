"""Threads, forks, pools, notebooks: whatever a training program is made of can log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.soak import SOAK
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, records

CHILDREN = 300 if SOAK else 40

FORKS = """
import os, sys, threading, time
import wherry

children = int(sys.argv[1])
run = wherry.init(project="p")

def log(name, i):
    a = wherry.Artifact(name, type="t", metadata={"i": i})
    with a.new_file("x") as f:
        f.write(str(i))
    run.log_artifact(a)

stop = threading.Event()
def busy():
    i = 0
    while not stop.is_set():
        log("parent", i); i += 1

threads = [threading.Thread(target=busy) for _ in range(2)]
for t in threads: t.start()
failed = 0
for first in range(0, children, 10):
    pids = []
    for i in range(first, min(first + 10, children)):
        pid = os.fork()
        if pid == 0:
            try:
                log("children", i)
                os._exit(0)
            except BaseException:
                import traceback; traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    for pid in pids:
        failed += os.waitpid(pid, 0)[1] != 0
stop.set()
for t in threads: t.join()
run.finish()
print(failed)
"""


@pytest.mark.soak
def test_a_child_forked_in_mid_call_hangs_or_fails(machine: Machine) -> None:
    """Processes forked while the parent's threads are in the middle of calls all log."""
    assert machine.start(FORKS, str(CHILDREN)).wait_done(240).strip() == "0"
    machine.wait_all_done()
    found = records(FolderObjects(machine.home / "store"), "p", "children")
    assert sorted(record["metadata"]["i"] for record in found) == list(range(CHILDREN))


THREADS = """
import threading, wherry
run = wherry.init(project="p")
def work(who):
    for i in range(10):
        a = wherry.Artifact(f"t{who % 2}", type="t", metadata={"who": who, "i": i})
        with a.new_file("x") as f: f.write(f"{who} {i}")
        run.log_artifact(a)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
run.finish()
"""


def test_threads_lose_or_reorder(machine: Machine) -> None:
    """Eight threads of one process over two names: each thread's order holds."""
    machine.run(THREADS)
    objects = FolderObjects(machine.home / "store")
    total = 0
    for name in ("t0", "t1"):
        last: dict[int, int] = {}
        for record in records(objects, "p", name):
            who, i = record["metadata"]["who"], record["metadata"]["i"]
            assert last.get(who, -1) < i
            last[who] = i
            total += 1
    assert total == 80


POOL = """
import multiprocessing, sys
import wherry

def work(i):
    import wherry
    run = wherry.run or wherry.init(project="p")
    a = wherry.Artifact("pool", type="t", metadata={"i": i})
    with a.new_file("x") as f:
        f.write(str(i))
    run.log_artifact(a)
    return i

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    parent = wherry.init(project="p")
    a = wherry.Artifact("before", type="t")
    parent.log_artifact(a)
    with context.Pool(4) as pool:
        assert sorted(pool.map(work, range(20))) == list(range(20))
    parent.finish()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_pools_worker_cannot_log(machine: Machine, method: str) -> None:
    """Workers of every start method log; they run no exit hooks, their work is the daemon's."""
    (machine.work / "pool.py").write_text(POOL)
    subprocess.run(
        [sys.executable, "pool.py", method],
        cwd=machine.work,
        env=machine.env,
        check=True,
        timeout=120,
    )
    machine.wait_all_done()
    found = records(FolderObjects(machine.home / "store"), "p", "pool")
    assert sorted(record["metadata"]["i"] for record in found) == list(range(20))


LOOP = """
import asyncio, wherry

async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)
    ticker = asyncio.create_task(tick())
    with wherry.init(project="p") as run:
        for i in range(5):
            a = wherry.Artifact("loop", type="t", metadata={"i": i})
            with a.new_file("x") as f: f.write(str(i))
            await asyncio.to_thread(run.log_artifact, a)
            run.log_artifact(a)
            await asyncio.sleep(0.01)
    ticker.cancel()
    print(ticks)

asyncio.run(main())
"""


def test_a_program_with_an_event_loop_cannot_log(machine: Machine) -> None:
    """Inside a running event loop, as in a notebook, calls work, from the loop and from threads."""
    assert int(machine.run(LOOP)) > 5
    found = records(FolderObjects(machine.home / "store"), "p", "loop")
    assert [record["metadata"]["i"] for record in found] == list(range(5))


def test_many_first_clients_start_many_daemons(machine: Machine) -> None:
    """Of many processes that need a daemon at once, one starts it."""
    source = """
        import wherry
        with wherry.init(project="p") as run:
            a = wherry.Artifact("first", type="t")
            with a.new_file("x") as f: f.write("same")
            run.log_artifact(a)
    """
    programs = [machine.start(source) for _ in range(8)]
    for program in programs:
        program.wait_done()
    log = (machine.home / "daemon.log").read_text()
    status = json.loads(machine.wherry("daemon", "status", "--json"))
    assert status["running"] and status["pid"] == machine.daemon_pid()
    assert len(records(FolderObjects(machine.home / "store"), "p", "first")) == 1
    assert log.count("event=ready") == 1
    assert "Traceback" not in log


LOADER = """
import multiprocessing, os, sys
import wherry

def log(name, i):
    run = wherry.run or wherry.init(project="p")
    a = wherry.Artifact(name, type="t", metadata={"i": i})
    with a.new_file("x") as f:
        f.write(f"{name} {i}")
    run.log_artifact(a)

def worker(name, asked, made):
    while (i := asked.get()) is not None:
        log(name, i)
        made.put((name, i))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    run = wherry.init(project="p")
    made = context.Queue()
    loaders = []
    for step in range(12):
        if step % 4 == 0:  # an epoch begins: one loader more, while those before wait for work
            asked = context.Queue()
            name = f"loader{len(loaders)}"
            process = context.Process(target=worker, args=(name, asked, made), daemon=True)
            process.start()
            loaders.append((asked, process))
        for asked, _ in loaders:
            asked.put(step)
        log("step", step)
        for _ in loaders:
            made.get()
    for asked, process in loaders[1:]:
        asked.put(None)
        process.join()
    # The first is terminated with the main process, as daemons are.
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_data_loader_cannot_log(machine: Machine, method: str) -> None:
    """Workers that live as long as the training, and log while the main process logs and starts more of
    them: every version arrives, each in its name's order, and who is terminated loses none.
    """
    path = machine.work / "loader.py"
    path.write_text(LOADER)
    code = "import runpy, sys; runpy.run_path(sys.argv[2], run_name='__main__')"
    machine.start(code, method, str(path)).wait_done()
    machine.wait_all_done()
    objects = FolderObjects(machine.home / "store")
    for name, first in (("step", 0), ("loader0", 0), ("loader1", 4), ("loader2", 8)):
        found = [record["metadata"]["i"] for record in records(objects, "p", name)]
        assert found == list(range(first, 12)), name
