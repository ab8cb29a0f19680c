"""The lint configuration catches what it is there for: each rule is broken once, in a copy."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[3]


_SKELETON = """
client/wherry/__init__.py client/wherry/errors.py client/wherry/artifact.py
client/wherry/cli/__init__.py client/wherry/cli/app.py client/wherry/wire/__init__.py
client/wherry/integrations/__init__.py client/wherry/integrations/planted.py
daemon/wherryd/__init__.py daemon/wherryd/app.py daemon/wherryd/clock.py daemon/wherryd/config.py
daemon/wherryd/model.py daemon/wherryd/news.py daemon/wherryd/rpc/__init__.py
daemon/wherryd/commit/__init__.py daemon/wherryd/read/__init__.py daemon/wherryd/queue/__init__.py
daemon/wherryd/registry/__init__.py daemon/wherryd/stores/__init__.py
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Make the packages' skeleton, beside our configuration."""
    for name in _SKELETON.split():
        _plant(tmp_path, name, "")
    shutil.copy(_REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def _plant(copy: Path, module: str, code: str) -> Path:
    path = copy / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'"""Planted."""\n\n{code}\n')
    return path


def _layers(copy: Path) -> str:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": "client:daemon", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "code", "contract"),
    [
        ("daemon/wherryd/stores/planted.py", "import wherryd.registry", "layers"),
        ("daemon/wherryd/commit/planted.py", "import wherryd.read", "layers"),
        ("daemon/wherryd/model.py", "import wherryd.queue", "layers"),
        ("daemon/wherryd/planted.py", "X = 1", "layers"),
        ("daemon/wherryd/queue/planted.py", "import wherryd.stores", "knows nothing of stores"),
        ("client/wherry/planted.py", "import wherryd.model", "imports nothing of the daemon"),
        ("daemon/wherryd/rpc/planted.py", "import wherry.cli", "only the client's errors and wire"),
        ("client/wherry/wire/planted.py", "import wherry.artifact", "wire stands on errors"),
        ("client/wherry/errors.py", "import wherry.artifact", "errors imports nothing"),
        ("client/wherry/errors.py", "import wherry.wire", "errors imports nothing"),
        ("client/wherry/planted.py", "import wherry.cli.app", "nothing imports the command line"),
        ("client/wherry/wire/planted.py", "import wherry.cli", "nothing imports the command line"),
        ("client/wherry/planted.py", "import wherry.integrations.planted", "the integrations"),
        ("client/wherry/planted.py", "import asyncio", "only the standard library"),
        ("client/wherry/integrations/planted.py", "import torch", "only the standard library"),
        ("client/wherry/planted.py", "import rich.console", "only the standard library"),
        ("client/wherry/wire/planted.py", "import msgspec", "only the standard library"),
        ("daemon/wherryd/registry/planted.py", "import botocore", "stay in their adapters"),
        ("daemon/wherryd/commit/planted.py", "import sqlite3", "stay in their adapters"),
        ("client/wherry/planted.py", "import h2", "stay in their adapters"),
    ],
)
def test_wrong_import_passes(copy: Path, module: str, code: str, contract: str) -> None:
    """An import against the layers breaks the contract that forbids it."""
    _plant(copy, module, code)
    broken = [line for line in _layers(copy).splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken)


def test_right_import_fails(copy: Path) -> None:
    """Imports down the layers keep every contract."""
    _plant(copy, "daemon/wherryd/rpc/planted.py", "import grpc\nimport wherryd.commit")
    _plant(copy, "daemon/wherryd/commit/planted.py", "import wherryd.queue\nimport wherry.wire")
    _plant(copy, "daemon/wherryd/queue/planted.py", "import sqlite3\nimport wherryd.model")
    _plant(
        copy, "daemon/wherryd/registry/planted.py", "import wherryd.stores\nimport wherry.errors"
    )
    _plant(copy, "client/wherry/wire/planted.py", "import h2\nimport wherry.errors")
    _plant(copy, "client/wherry/cli/__init__.py", "def main():\n    import wherry.cli.app")
    _plant(copy, "client/wherry/cli/app.py", "import rich.table\nimport wherry.wire")
    assert " 0 broken" in _layers(copy)


def _ruff(copy: Path, path: Path) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", path]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import time\n\nNOW = time.time()",
        "import random\n\nDICE = random.random()",
        "from anyio import sleep\n\nNAP = sleep",
        "from datetime import datetime\n\nNOW = datetime.now()",
        "import uuid\n\nTOKEN = uuid.uuid4()",
    ],
)
def test_daemon_asks_the_machine_for_time_or_chance(copy: Path, code: str) -> None:
    """Time and chance come from the clock alone, so that a simulation can supply its own."""
    assert "TID251" in _ruff(copy, _plant(copy, "daemon/wherryd/commit/planted.py", code))


def test_ban_reaches_the_client(copy: Path) -> None:
    """The client, which has no clock handed to it, may use the machine's."""
    code = "import time\n\nNOW = time.time()"
    assert "TID251" not in _ruff(copy, _plant(copy, "client/wherry/planted.py", code))


@pytest.mark.parametrize("folder", ["client/wherry", "client/wherry/wire", "daemon/wherryd/commit"])
def test_untyped_code_passes(copy: Path, folder: str) -> None:
    """Mypy is strict about both packages."""
    path = _plant(copy, f"{folder}/planted.py", "def f(x):\n    return x")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", copy / "mypy", path],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "[no-untyped-def]" in done.stdout, done.stdout + done.stderr


def _tests_without_a_rule(source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]


def test_test_states_no_rule() -> None:
    """Every test's docstring is the rule that it holds the code to."""
    files = (_REPOSITORY / "tests").rglob("test_*.py")
    silent = {
        file.name: names for file in files if (names := _tests_without_a_rule(file.read_text()))
    }
    assert silent == {}


def test_silent_test_goes_unseen() -> None:
    """The look for rules finds a test that states none."""
    assert _tests_without_a_rule("async def test_a(): ...\ndef test_b():\n  'Rule.'") == ["test_a"]


def _torn_docstrings(source: str) -> list[str]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [
        text
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]
    firsts = [text.partition("\n\n")[0] for text in texts if "\n\n" in text]
    return [first for first in firsts if not first.endswith((".", ":", "?", "!", ")"))]


def test_docstring_is_torn() -> None:
    """No blank line stands in the middle of a docstring's sentence."""
    folders = ["client", "daemon", "tests", "benchmarks", "examples", "scripts"]
    files = [file for name in folders for file in (_REPOSITORY / name).rglob("*.py")]
    torn = {str(file): found for file in files if (found := _torn_docstrings(file.read_text()))}
    assert torn == {}


def test_torn_docstring_goes_unseen() -> None:
    """The look for torn docstrings finds one."""
    assert _torn_docstrings('"""Owns: this and\n\nthat.\n"""') == ["Owns: this and"]


def test_hooks_check_something_else() -> None:
    """The pre-commit hook runs what CI runs: `make lint`."""
    text = (_REPOSITORY / ".pre-commit-config.yaml").read_text()
    assert "entry: make lint" in text
    assert "make lint" in (_REPOSITORY / ".ci/run").read_text()


def test_hook_is_run_nowhere() -> None:
    """CI sets everything up from nothing by the README's commands, and runs the hook there."""
    assert "scripts/from-nothing" in (_REPOSITORY / ".ci/run").read_text()
    assert "pre-commit run" in (_REPOSITORY / "scripts/from-nothing").read_text()
