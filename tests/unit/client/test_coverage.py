"""The README's table of what works of W&B's surface is the surface, and is true."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.wandb_surface import SURFACE
from wherry import data_types, later
from wherry.cli.app import WHERRY
from wherry.cli.command import Group
from wherry.data_types import LaterType
from wherry.entries import ManifestEntry
from wherry.errors import NotYet
from wherry.known_runs import KnownRun
from wherry.manifest import Manifest
from wherry.wire import wherry_pb2 as pb

_README = Path(__file__).resolve().parents[3] / "README.md"
_ROW = re.compile(r"^\| ([^|-][^|]*) \|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
_CLASSES = {
    "Artifact": wherry.Artifact,
    "an entry": ManifestEntry,
    "a manifest": Manifest,
    "Run": wherry.Run,
    "Api": wherry.Api,
    "Table": wherry.Table,
}
#: Names that are not attributes.
_SPELLED = {
    "artifact[name]": "__getitem__",
    "artifact[name] = obj": "__setitem__",
    "with run": "__enter__",
    "Table": "__init__",
}


class Item(NamedTuple):
    """One thing in a cell of the table."""

    kind: str
    text: str


def _cells(column: int) -> list[Item]:
    """List what stands in a column: 1 works, 2 without effect, 3 later."""
    text = _README.read_text().partition("## What of W&B's artifacts works today")[2]
    rows = _ROW.findall(text.partition("\n## ")[0])
    found = [(row[0].partition(",")[0].strip("` "), row[column]) for row in rows]
    return [Item(kind, item) for kind, cell in found for item in re.findall(r"`([^`]+)`", cell)]


WORKS, WITHOUT_EFFECT, LATER = _cells(1), _cells(2), _cells(3)


# ── the table is the surface ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", SURFACE)
def test_name_is_in_no_cell_or_in_two(kind: str) -> None:
    """Every name that W&B programs call stands in exactly one cell."""
    cells = [*WORKS, *WITHOUT_EFFECT, *LATER]
    count = Counter(item.text.replace(" = ", "=") for item in cells if item.kind == kind)
    assert {name: count[name] for name in SURFACE[kind] if count[name] != 1} == {}


def test_name_of_the_module_is_in_no_cell() -> None:
    """Every name that ``wherry`` exports stands in a cell, but for two that are no part of W&B's surface."""
    told = {item.text for item in (*WORKS, *WITHOUT_EFFECT, *LATER)}
    assert set(wherry.__all__) - told == {"Run", "__version__"}


# ── what works ─────────────────────────────────────────────────────────────────────────────────
def _code(thing: object) -> ast.FunctionDef | None:
    if isinstance(thing, property):
        thing = thing.fget
    if not inspect.isfunction(thing):
        return None
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    assert isinstance(function, ast.FunctionDef)
    return function


def _only_raises(thing: object) -> bool:
    """Whether a function does nothing but raise, after its docstring and ``del``."""
    function = _code(thing)
    if function is None:
        return False
    steps = [step for step in function.body if not isinstance(step, ast.Expr | ast.Delete)]
    return len(steps) == 1 and isinstance(steps[0], ast.Raise)


def _attribute(item: Item) -> object:
    of_a_run, dot, name = item.text.partition("run.")
    if dot and not of_a_run:
        return inspect.getattr_static(KnownRun, name)
    return inspect.getattr_static(_CLASSES[item.kind], _SPELLED.get(item.text, item.text))


def _stubs(cls: type) -> set[str]:
    """List the public names of a class that can do nothing but say "not yet"."""
    bases = [base for base in cls.__mro__ if base.__name__.startswith("Later")]
    names = {name for base in bases for name in vars(base)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("item", WORKS, ids=str)
def test_what_works_is_not_built(item: Item) -> None:
    """What the table says works is there, and is more than a word about later."""
    if item.kind == "module":
        assert item.text in dir(wherry)
    elif item.kind == "command line":
        assert item.text in _commands()
    elif item.kind == "Run" and item.text == "config":
        assert wherry.init(mode="disabled", config={"a": 1}).config["a"] == 1
    elif item.text in _slots(item.kind):
        pass  # plain data
    else:
        assert not _only_raises(_attribute(item))
        assert item.text not in _stubs(_CLASSES[item.kind])


def _slots(kind: str) -> tuple[str, ...]:
    return {"an entry": ManifestEntry.__slots__, "a manifest": ("entries",)}.get(kind, ())


def _commands() -> set[str]:
    found = {name: WHERRY.find(name) for name in WHERRY.commands}
    groups = {name: group for name, group in found.items() if isinstance(group, Group)}
    return {*found} | {
        f"{name} {word}" for name, group in groups.items() for word in group.commands
    }


def test_stub_stands_outside_later() -> None:
    """What does nothing but raise ``NotYet`` is in a class whose name begins with ``Later``."""
    for cls in _CLASSES.values():
        others = [base for base in cls.__mro__ if not base.__name__.startswith("Later")]
        found = [f"{base.__name__}.{name}" for base in others for name in _raising(base)]
        assert found == []


def _raising(cls: type) -> list[str]:
    ours = cls.__module__.startswith("wherry")
    return [name for name, thing in vars(cls).items() if ours and _only_raises(thing)]


def test_stub_goes_unseen() -> None:
    """The looks for stubs find those that there are."""
    assert _only_raises(later.LaterArtifact.new_draft)
    assert _only_raises(vars(later.LaterArtifact)["collection"])
    assert {"new_draft", "collection"} <= _stubs(wherry.Artifact)


# ── what comes later ───────────────────────────────────────────────────────────────────────────
class Things(NamedTuple):
    """What the calls below need."""

    built: wherry.Artifact  # not logged
    found: wherry.Artifact  # a version in a store, with a table and a reference
    run: wherry.Run
    api: wherry.Api


@pytest.fixture
def things(recorder: Recorder) -> Things:
    run = wherry.init(project="p", group="g")
    logged = wherry.Artifact("logged", "t")
    run.log_artifact(logged)
    recorder.commit(0, 0)
    recorder.manifest = [
        pb.Entry(path="a.table.json", digest=f"sha256:{'a' * 64}", size=1),
        pb.Entry(path="far", reference=pb.Reference(uri="s3://b/far")),
    ]
    built = wherry.Artifact("built", "t")
    return Things(built, run.use_artifact("logged:v0"), run, wherry.Api())


_CALLS: dict[Item, Callable[[Things], object]] = {
    Item("Artifact", "Artifact(incremental=True)"): (
        lambda _: wherry.Artifact("a", "t", incremental=True)
    ),
    Item("Artifact", "add_reference(entry)"): (
        lambda it: it.built.add_reference(it.found.get_entry("far"))
    ),
    Item("Artifact", "new_draft"): lambda it: it.found.new_draft(),
    Item("Artifact", "link"): lambda it: it.found.link("collection", aliases=["x"]),
    Item("Artifact", "unlink"): lambda it: it.found.unlink(),
    Item("Artifact", "pickle.dumps(artifact)"): lambda it: pickle.dumps(it.found),
    Item("Artifact", "collection"): lambda it: it.found.collection,
    Item("Run", "log_code"): lambda it: it.run.log_code("."),
    Item("Run", "link_artifact"): lambda it: it.run.link_artifact(it.built, "collection"),
    Item("Run", "link_model"): lambda it: it.run.link_model("model.pt", "collection"),
    Item("Run", "log_artifact(version)"): lambda it: it.run.log_artifact(it.found),
    Item("Api", "artifact_types"): lambda it: it.api.artifact_types("p"),
    Item("Api", "artifact_type"): lambda it: it.api.artifact_type("t", "p"),
    Item("Api", "artifact_collections"): lambda it: it.api.artifact_collections("p", "t"),
    Item("module", "data_types.JoinedTable"): lambda _: data_types.JoinedTable("a", "b", "key"),
    Item("module", "data_types.Image"): lambda _: data_types.Image("cat.png"),
}


def test_what_comes_later_is_not_called() -> None:
    """Each item of the column is called by this test, and each stub stands in the column."""
    assert set(LATER) == {*_CALLS}
    for kind, cls in _CLASSES.items():
        assert {Item(kind, name) for name in _stubs(cls)} - {*LATER, *_facts(kind)} == set()


def _facts(kind: str) -> set[Item]:
    """What ``LaterRun`` has from the class below it is no stub."""
    return {Item(kind, name) for name in dir(later.RunFacts)} if kind == "Run" else set()


@pytest.mark.parametrize("item", _CALLS, ids=str)
def test_what_comes_later_does_something_else(things: Things, item: Item) -> None:
    """What the table says comes later raises ``NotYet``, a NotImplementedError, with a sentence."""
    with pytest.raises(NotYet, match=r"(not built|pickled) yet") as caught:
        _CALLS[item](things)
    assert isinstance(caught.value, NotImplementedError)


def test_data_type_goes_untold() -> None:
    """The table names every data type that can't be made yet."""
    types = [each for each in vars(data_types).values() if inspect.isclass(each)]
    later = {each.__name__ for each in types if LaterType in each.__mro__[1:]}
    assert later == {each.text.rpartition(".")[2] for each in LATER if "data_types" in each.text}


@pytest.mark.parametrize("name", ["a.joined-table.json", "a"])
def test_object_of_another_type_is_nothing(things: Things, recorder: Recorder, name: str) -> None:
    """An object of W&B's that can't be read back yet says so, where a name that is none gives None."""
    recorder.manifest = [pb.Entry(path="a.joined-table.json", digest=f"sha256:{'a' * 64}", size=1)]
    with pytest.raises(NotYet, match="not built yet"):
        things.found.get(name)
    assert things.found.get("b") is None


# ── what is without effect ─────────────────────────────────────────────────────────────────────
def _dropped(kind: str, call: str) -> set[str]:
    """List the parameters that a call drops."""
    cls = _CLASSES[kind]
    function = _code(cls.__init__ if call == kind else inspect.getattr_static(cls, call))
    assert function is not None
    deleted = [step for step in ast.walk(function) if isinstance(step, ast.Delete)]
    return {
        f"{call}({name.id})"
        for step in deleted
        for name in step.targets
        if isinstance(name, ast.Name)
    }


@pytest.mark.parametrize("kind", ["Artifact", "Run", "Api", "Table"])
def test_parameter_is_dropped_in_silence(kind: str) -> None:
    """The table names every parameter that has no effect, and no other."""
    calls = [kind, *(item.text for item in WORKS if item.kind == kind)]
    calls = [call for call in calls if call == kind or inspect.isfunction(_static(kind, call))]
    dropped = {text for call in calls for text in _dropped(kind, call)}
    checked_only = {"new_file(policy)"} if kind == "Artifact" else set()
    told = {item.text for item in WITHOUT_EFFECT if item.kind == kind and "(" in item.text}
    assert told == dropped | checked_only


def _static(kind: str, name: str) -> object:
    return inspect.getattr_static(_CLASSES[kind], name, None)


_ALWAYS: dict[Item, Any] = {
    Item("Artifact", "ttl"): None,
    Item("Artifact", "url"): None,
    Item("Artifact", "incremental"): False,
    Item("an entry", "extra"): {},
}


@pytest.mark.filterwarnings("ignore:wherry. log.. drops metrics")
def test_what_has_no_effect_has_one(things: Things, recorder: Recorder) -> None:
    """The rest of the column: the same answer for every artifact, and metrics that go nowhere."""
    calls = {Item("Run", "log"), Item("module", "log"), Item("module", "login")}
    assert {item for item in WITHOUT_EFFECT if "(" not in item.text} == {*_ALWAYS, *calls}
    for (kind, name), value in _ALWAYS.items():
        for artifact in (things.built, things.found):
            thing = artifact if kind == "Artifact" else things.found.get_entry("far")
            assert getattr(thing, name) == value
    things.run.log({"loss": 1})
    wherry.log({"loss": 1})
    assert wherry.login(key="x") is True
    assert len(recorder.logged) == 1
