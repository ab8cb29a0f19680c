"""The README's table of what works of W&B's surface, made by making the calls.

Owns: which cell a name is in, and where the table stands. Does not own: the names and calls (``surface``).

As a program it writes the table into the README.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

import wherry
from tests.support.machine import Machine
from tests.support.surface import ROWS, WITHOUT_EFFECT
from wherry.catalog import ArtifactCollection, ArtifactType

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
REMEDY = "the README's table is not what the calls give; run: .venv/bin/python -m tests.support.coverage_table"

_HEAD = "| | works | without effect | later |\n| --- | --- | --- | --- |\n"
_TABLE = re.compile(rf"{re.escape(_HEAD)}(\|.*\n)+")
_KINDS = ("works", WITHOUT_EFFECT, "later")
_CLASSES: dict[str, tuple[type, ...]] = {
    "`Artifact`, building": (wherry.Artifact,),
    "`Artifact`, its life": (wherry.Artifact,),
    "`Artifact`, reading": (wherry.Artifact,),
    "`Run`": (wherry.Run,),
    "`Api`": (wherry.Api,),
    "a type, an artifact": (ArtifactType, ArtifactCollection),
    "`Table`": (wherry.Table,),
}
#: Whose constructor's parameters a row tells of.
_MADE = {"`Artifact`, building": "Artifact", "`Api`": "Api", "`Table`": "Table"}
#: Parameters that are looked at, and have no effect all the same.
_ONLY_CHECKED = {"new_file": ["policy"]}

Outcomes = Mapping[str, Mapping[str, str]]


def outcomes(root: Path) -> Outcomes:
    """Make all calls on a machine of their own.

    Args:
        root: an empty folder.
    """
    machine = Machine(root)
    try:
        program = "from tests.support.surface import main; main()"
        found: Outcomes = json.loads(machine.run(program, env={"PYTHONPATH": str(ROOT)}))
        return found
    finally:
        machine.close()


def troubles(found: Outcomes) -> list[str]:
    """List the calls that did not give what they should."""
    told = ((row, name, said) for row, names in found.items() for name, said in names.items())
    return [f"{row}: {name} {said}" for row, name, said in told if said not in _KINDS]


def render(found: Outcomes) -> str:
    """Write the table."""
    return _HEAD + "".join(_line(row, names) for row, names in found.items())


def written() -> str:
    """The table as it stands in the README."""
    table = _TABLE.search(README.read_text())
    return table.group() if table else ""


def dropped(row: str) -> list[str]:
    """List the parameters of a row's calls that have no effect, as they are written in the table."""
    calls = {item.name: item.name for item in ROWS[row]}
    if row in _MADE:
        calls = {_MADE[row]: "__init__"} | {**calls, _MADE[row]: "__init__"}
    found = [
        (call, name)
        for call, attribute in calls.items()
        for cls in _CLASSES.get(row, ())
        for name in [*_deleted(cls, attribute), *_ONLY_CHECKED.get(call, [])]
    ]
    return [f"{call}({name})" for call, name in found]


def _line(row: str, names: Mapping[str, str]) -> str:
    cells = [[name for name, said in names.items() if said == kind] for kind in _KINDS]
    whole = {*cells[1], *cells[2]}
    cells[1] += [each for each in dropped(row) if each.partition("(")[0] not in whole]
    written = ("".join(f" `{name}`" for name in cell) for cell in cells)
    return f"| {row} |{' |'.join(written)} |\n"


def _deleted(cls: type, name: str) -> list[str]:
    function = inspect.getattr_static(cls, name, None)
    if not inspect.isfunction(function):
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    targets = [
        each for step in ast.walk(tree) if isinstance(step, ast.Delete) for each in step.targets
    ]
    return [each.id for each in targets if isinstance(each, ast.Name)]


def main() -> None:
    """Write the table into the README, unless a call gives what it should not."""
    with tempfile.TemporaryDirectory() as root:
        found = outcomes(Path(root))
    if wrong := troubles(found):
        raise SystemExit("\n".join(wrong))
    table = render(found)
    README.write_text(_TABLE.sub(lambda _: table, README.read_text()))


if __name__ == "__main__":
    main()
