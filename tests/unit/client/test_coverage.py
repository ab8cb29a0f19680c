"""What is not built yet says so, and stands where the README's table finds it.

The table itself is made, and compared, by ``tests.support.coverage_table``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest

import wherry
from tests.support.surface import ESSENTIAL, ROWS, WITHOUT_EFFECT, Item, World, outcome
from tests.unit.client.recorder import Recorder
from wherry import data_types, later
from wherry.data_types import LaterType
from wherry.entries import ManifestEntry
from wherry.errors import NotYet
from wherry.manifest import Manifest
from wherry.wire import wherry_pb2 as pb

_CLASSES = (
    wherry.Artifact,
    wherry.Run,
    wherry.Api,
    wherry.Table,
    ManifestEntry,
    Manifest,
)
_TOLD = {item.name for items in ROWS.values() for item in items}


def _only_raises(thing: object) -> bool:
    """Whether a function does nothing but raise, after its docstring and ``del``."""
    if isinstance(thing, property):
        thing = thing.fget
    if not inspect.isfunction(thing):
        return False
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    assert isinstance(function, ast.FunctionDef)
    steps = [step for step in function.body if not isinstance(step, ast.Expr | ast.Delete)]
    return len(steps) == 1 and isinstance(steps[0], ast.Raise)


def _stubs(cls: type) -> set[str]:
    """List the public names of a class that can do nothing but say "not yet"."""
    bases = [base for base in cls.__mro__ if base.__name__.startswith("Later")]
    names = {name for base in bases for name in vars(base)}
    return {name for name in names if not name.startswith("_")}


def test_stub_stands_outside_later() -> None:
    """What does nothing but raise ``NotYet`` is in a class whose name begins with ``Later``."""
    for cls in _CLASSES:
        others = [base for base in cls.__mro__ if not base.__name__.startswith("Later")]
        found = [f"{base.__name__}.{name}" for base in others for name in _raising(base)]
        assert found == []


def _raising(cls: type) -> list[str]:
    ours = cls.__module__.startswith("wherry")
    return [name for name, thing in vars(cls).items() if ours and _only_raises(thing)]


def test_stub_goes_unseen() -> None:
    """The look for stubs finds those that there are."""
    assert _only_raises(LaterType.__init__) or _only_raises(vars(later.LaterArtifact)["__reduce__"])


def test_stub_goes_untold() -> None:
    """The table names all that can't be called yet, and every data type that can't be made."""
    assert {name for cls in _CLASSES for name in _stubs(cls)} <= _TOLD
    types = [each for each in vars(data_types).values() if inspect.isclass(each)]
    missing = {f"data_types.{each.__name__}" for each in types if LaterType in each.__mro__[1:]}
    assert missing == {name for name in _TOLD if name.startswith("data_types.")}


def test_name_of_the_module_is_in_no_cell() -> None:
    """Every name that ``wherry`` exports stands in a cell, but for two that are no part of W&B's surface."""
    assert set(wherry.__all__) - _TOLD == {"Run", "__version__"}


@pytest.fixture
def found(recorder: Recorder) -> wherry.Artifact:
    """A version that is in a store."""
    run = wherry.init(project="p")
    run.log_artifact(wherry.Artifact("logged", "t"))
    recorder.commit(0, 0)
    return run.use_artifact("logged:v0")


@pytest.mark.parametrize("name", ["a.joined-table.json", "a"])
def test_object_of_another_type_is_nothing(
    found: wherry.Artifact, recorder: Recorder, name: str
) -> None:
    """An object of W&B's that can't be read back yet says so, where a name that is none gives None."""
    recorder.manifest = [pb.Entry(path="a.joined-table.json", digest=f"sha256:{'a' * 64}", size=1)]
    with pytest.raises(NotYet, match="not built yet"):
        found.get(name)
    assert found.get("b") is None


# ── the calls that the table is made by ────────────────────────────────────────────────────────
def _raise(error: Exception) -> object:
    raise error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: "v0", "works"),
        (lambda _: WITHOUT_EFFECT, "without effect"),
        (lambda _: _raise(NotYet("That is not built yet.")), "later"),
        (lambda _: _raise(NotYet("No.")), "raised NotYet: No."),
        (lambda _: None, "gave None"),
        (lambda it: it.nothing, "raised AttributeError: 'World' object has no attribute 'nothing'"),
    ],
)
def test_call_that_fails_works(found: wherry.Artifact, call: object, said: str) -> None:
    """What gives nothing, or raises anything but "not yet", is in no cell of the table."""
    world = World(wherry.init(project="p"), found, wherry.Api())
    assert outcome(world, Item("name", ESSENTIAL, call)) == said  # type: ignore[arg-type]
