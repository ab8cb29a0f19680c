"""Notebooks: one process, one namespace, cells that are run again, stopped, or fail."""

from __future__ import annotations

from tests.support.machine import Machine
from tests.support.reading import FolderObjects, records

#: Cells, each run as a notebook's kernel does: in one namespace, an error ends the cell and not the kernel.
NOTEBOOK = '''
import _thread, sys, threading, traceback
namespace = {"__name__": "__main__", "sys": sys, "threading": threading, "_thread": _thread}
cells = [
    """
import wherry
def log(n):
    a = wherry.Artifact("model", type="t", metadata={"n": n})
    with a.new_file("x") as f:
        f.write(str(n))
    return run.log_artifact(a)
run = wherry.init(project="p")
log(0)
""",
    # Run again, as people do, and never finished.
    "run = wherry.init(project='p')\\nlog(1)",
    # The stop button, in the middle of a loop that logs.
    """
logged = 1
threading.Timer(0.3, _thread.interrupt_main).start()
while True:
    log(logged + 1)
    logged += 1
""",
    "1 / 0",
    "last = log(1000)\\nprint(logged, last.wait().version)",
    "run.finish()",
]
for cell in cells:
    try:
        exec(cell, namespace)
    except (Exception, KeyboardInterrupt) as error:
        print(type(error).__name__)
'''


def test_a_cell_run_again_or_stopped_loses_a_version(machine: Machine) -> None:
    """In a notebook: ``init`` in a cell that is run again, a cell that is stopped in mid-log, one that
    fails; all that was logged is there once and in order, and at most the call that was stopped is open.
    """
    stopped, failed, said = machine.run(NOTEBOOK).split("\n")[:3]
    assert (stopped, failed) == ("KeyboardInterrupt", "ZeroDivisionError")
    logged = int(said.split()[0])
    found = records(FolderObjects(machine.home / "store"), "p", "model")
    numbers = [record["metadata"]["n"] for record in found]
    assert numbers in ([*range(logged + 1), 1000], [*range(logged + 2), 1000])
    assert said.split()[1] == f"v{len(numbers) - 1}"
