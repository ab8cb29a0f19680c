"""Notebooks: a kernel whose cells are run again, stopped, or fail, and that is started again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.machine import Machine
from tests.support.reading import FolderObjects, records

_FIRST = """
import wherry
def log(n):
    a = wherry.Artifact("model", type="t", metadata={"n": n})
    with a.new_file("x") as f:
        f.write(str(n))
    return run.log_artifact(a)
run = wherry.init(project="p")
log(0)
"""

#: It says when it is under way.
_LOOP = """
logged = 1
while True:
    log(logged + 1)
    logged += 1
    if logged == 5: print("under way", flush=True)
"""


class Notebook:
    """A kernel with what a notebook does to it."""

    def __init__(self, manager: KernelManager) -> None:
        self._manager = manager
        self._client = self._connect()

    def run(self, cell: str, stop_after: str = "") -> tuple[str, str]:
        """Run a cell; return what it printed, and the name of the error that ended it.

        Args:
            stop_after: the stop button is pressed when the cell prints this.
        """
        printed: list[str] = []

        def take(message: dict[str, object]) -> None:
            content = message["content"]
            assert isinstance(content, dict)
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
                if stop_after and stop_after in content["text"]:
                    self._manager.interrupt_kernel()

        reply = self._client.execute_interactive(cell, timeout=60, output_hook=take)
        return "".join(printed), reply["content"].get("ename", "")

    def restart(self) -> None:
        """Let the kernel start anew, with an empty namespace."""
        self._client.stop_channels()
        self._manager.restart_kernel()
        self._client = self._connect()

    def close(self) -> None:
        """End the kernel as closing the notebook does."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()

    def _connect(self) -> BlockingKernelClient:
        client: BlockingKernelClient = self._manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client


@contextlib.contextmanager
def _notebook(machine: Machine) -> Iterator[Notebook]:
    manager = KernelManager(kernel_name="python3")
    private = {
        "IPYTHONDIR": str(machine.root / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(machine.root),
    }
    manager.start_kernel(env={**os.environ, **machine.env, **private}, cwd=str(machine.work))
    try:
        notebook = Notebook(manager)
        yield notebook
        notebook.close()
    finally:
        manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
def test_a_cell_run_again_or_stopped_loses_a_version(machine: Machine) -> None:
    """A cell with ``init`` that is run again, one that is stopped in mid-log, one that fails, a kernel that
    is started anew without a word: all that was logged is there once and in order, and at most the call
    that was stopped is open.
    """
    with _notebook(machine) as notebook:
        assert notebook.run(_FIRST)[1] == ""
        assert notebook.run("run = wherry.init(project='p'); log(1)")[1] == ""  # never finished
        assert notebook.run(_LOOP, stop_after="under way")[1] == "KeyboardInterrupt"
        assert notebook.run("1 / 0")[1] == "ZeroDivisionError"
        logged = int(notebook.run("print(logged)")[0])
        assert notebook.run("log(1000)")[1] == ""
        notebook.restart()
        assert notebook.run(_FIRST.replace("log(0)", "last = log(2000)"))[1] == ""
        said, error = notebook.run("print(last.wait().version); run.finish()")
        assert error == ""
    found = records(FolderObjects(machine.home / "store"), "p", "model")
    numbers = [record["metadata"]["n"] for record in found]
    assert numbers in ([*range(logged + 1), 1000, 2000], [*range(logged + 2), 1000, 2000])
    assert said.strip() == f"v{len(numbers) - 1}"
