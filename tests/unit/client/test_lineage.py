"""Lineage as a tree, as JSON, for Graphviz and for Mermaid; runs as a store has them."""

from __future__ import annotations

import json

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry.errors import NotFoundError, UsageError
from wherry.lineage import Lineage
from wherry.wire import wherry_pb2 as pb


def _version(name: str, steps: int, *sources: int, **said: object) -> pb.LineageVersion:
    values = {"type": name, "created": "2026-11-23T14:00:00.000Z", **said}
    return pb.LineageVersion(project="cats", name=name, steps=steps, sources=sources, **values)  # type: ignore[arg-type]


def _run(id_: str, job_type: str = "", name: str = "") -> pb.LineageRun:
    return pb.LineageRun(run=pb.Run(id=id_, project="cats", job_type=job_type, name=name))


def _edges(*edges: tuple[int, int, bool]) -> list[pb.LineageEdge]:
    return [pb.LineageEdge(version=version, run=run, used=used) for version, run, used in edges]


USED, LOGGED = True, False
TOLD = pb.Lineage(
    versions=[
        _version("model", 0, 1),
        _version("data", -1, 2),
        _version("raw", -2, type="", created=""),
        _version("report", 1, 0),
        _version("odd", 1, 0, deleted=True),
    ],
    runs=[_run("r1", "train", "first"), _run("r2", "prep"), _run("r3"), _run("r4")],
    edges=_edges(
        *((1, 0, USED), (0, 0, LOGGED), (2, 1, USED), (1, 1, LOGGED)),
        *((0, 2, USED), (3, 2, LOGGED), (0, 3, USED)),
    ),
)


def test_tree_is_a_riddle() -> None:
    """Sources with the runs that logged them, and runs with what they made; what is gone is said to be."""
    assert str(Lineage(TOLD)).splitlines() == [
        "cats/model:v0  model  logged by run first (train)",
        "├─ made of",
        "│  └─ cats/data:v0  data  logged by run r2 (prep)",
        "│     └─ cats/raw:v0  not there",
        "└─ used by",
        "   ├─ run r3",
        "   │  └─ cats/report:v0  report",
        "   ├─ run r4",
        "   └─ cats/odd:v0  deleted",
    ]


def test_version_without_lineage_has_branches() -> None:
    """What was made of nothing, and used by nobody, is one line; more that is not told is said."""
    alone = pb.Lineage(versions=[_version("model", 0)], truncated=True)
    assert str(Lineage(alone)) == "cats/model:v0  model\n… and more, farther away"


def test_chain_of_checkpoints_is_too_long() -> None:
    """Ten thousand versions, each made of the one before, are drawn; and what comes twice only once."""
    count = 10_000
    versions = [_version("v", n, *([n - 1] if n else []), version=n) for n in range(count)]
    assert len(str(Lineage(pb.Lineage(versions=versions))).splitlines()) == count + 1
    many = 40  # each made of both before: 2 ** 40 ways
    both = [_version("v", n, *range(max(0, n - 2), n), version=n) for n in range(many)]
    lines = str(Lineage(pb.Lineage(versions=both))).splitlines()
    assert len(lines) < 4 * many
    assert any("its branches are above" in line for line in lines)


def test_json_lacks_something() -> None:
    """The graph as JSON has all that is known."""
    graph = json.loads(json.dumps(Lineage(TOLD).as_dict()))
    assert graph["versions"][0] == {
        "project": "cats",
        "name": "model",
        "version": "v0",
        "type": "model",
        "created": "2026-11-23T14:00:00.000Z",
        "deleted": False,
        "steps": 0,
        "sources": ["cats/data:v0"],
    }
    assert graph["runs"][0] == {
        "project": "cats",
        "id": "r1",
        "name": "first",
        "group": None,
        "job_type": "train",
        "started": None,
        "ended": None,
        "used": ["cats/data:v0"],
        "logged": ["cats/model:v0"],
    }
    assert graph["versions"][2]["type"] is None
    assert graph["truncated"] is False


def test_name_breaks_a_drawing() -> None:
    """Quotes, backslashes and what else ends a label are escaped, in both kinds of drawing."""
    odd = pb.Lineage(
        versions=[_version('a "b" \\ <c> & #d;', 0)],
        runs=[_run('r"1')],
        edges=_edges((0, 0, LOGGED)),
    )
    graph = Lineage(odd)
    assert 'label="cats/a \\"b\\" \\\\ <c> & #d;:v0"' in graph.as_dot()
    assert "  r0 -> v0;" in graph.as_dot().splitlines()
    assert 'v0["cats/a #34;b#34; #92; #60;c#62; #38; #35;d;:v0"]' in graph.as_mermaid()
    assert "  r0 --> v0" in graph.as_mermaid().splitlines()


# ── what a run tells ───────────────────────────────────────────────────────────────────────────
def test_run_that_did_nothing_is_told(recorder: Recorder) -> None:
    """A run is told when it logs or uses something, once; and again when it ends."""
    with wherry.init(project="cats"):
        pass
    assert recorder.noted == []
    with wherry.init(project="cats", config={"lr": 0.1}, tags=["t"], notes="n", group="g") as run:
        for name in ("a", "b"):
            run.log_artifact(wherry.Artifact(name, "t"))
            recorder.commit(len(recorder.logged) - 1, 0)
        run.use_artifact("a:v0")
        run.use_artifact("a:v0")
        run.config["lr"] = 0.2
    first, used, ended, waited = recorder.noted
    assert not ended.wait and waited.wait
    assert (first.run.id, first.run.group, first.run.project) == (run.id, "g", "cats")
    assert json.loads(first.facts.config) == {"lr": 0.1}
    assert (first.facts.notes, list(first.facts.tags), first.facts.ended) == ("n", ["t"], "")
    assert list(used.used) == ["cats/a:v0"] and not used.HasField("facts")
    assert json.loads(ended.facts.config) == {"lr": 0.2}
    assert ended.facts.exit_code == 0
    assert ended.facts.started == first.facts.started <= ended.facts.ended


def test_config_stops_the_training(recorder: Recorder) -> None:
    """What is no JSON in a config is recorded as its text; what is too large, not at all."""
    run = wherry.init(project="cats", config={"f": print, 3: float("nan"), "x": "\ud800"})
    run.log_artifact(wherry.Artifact("a", "t"))
    config = json.loads(recorder.noted[0].facts.config)
    assert config == {"f": "<built-in function print>", "3": "NaN", "x": "?"}
    run.config.update({str(number): "x" * 900 for number in range(2_000)})
    recorder.commit(0, 0)
    with pytest.warns(UserWarning, match="not recorded; 1 MiB"):
        run.finish()
    assert recorder.noted[-1].facts.config == b"{}"


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("deleted")

    def tolist(self) -> object:
        raise RuntimeError("deleted")


def test_config_ends_the_training(recorder: Recorder) -> None:
    """Objects whose own code fails, odd keys and passwords: nothing of it raises, or gets into a store."""
    config = {
        "a": _Broken(),
        "\ud800": 1,
        "db": "postgres://me:secret@host/db",
        "l": ["s3://k:s@b/x"],
    }
    with wherry.init(project="cats", config=config) as run:
        run.log_artifact(wherry.Artifact("a", "t"))
        recorder.commit(0, 0)
    told = json.loads(recorder.noted[-1].facts.config)
    assert told == {"a": "<_Broken>", "?": 1, "db": "postgres://***@host/db", "l": ["s3://***@b/x"]}


def test_note_that_fails_takes_the_log_with_it(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was logged stands, though the daemon can't note what the run is; it is told again later."""
    recorder.refuse("NoteRun", "QueueError", "no room")
    run = wherry.init(project="cats")
    run.log_artifact(wherry.Artifact("a", "t"))
    assert "could not be noted: no room" in capsys.readouterr().err
    assert len(recorder.logged) == 1
    run.log_artifact(wherry.Artifact("b", "t"))
    assert len(recorder.noted) == 1


def test_failed_run_looks_finished(recorder: Recorder) -> None:
    """A block that raises ends its run with exit code 1; offline, and detached, nobody waits for it."""
    with pytest.raises(ZeroDivisionError), wherry.init(project="cats", mode="offline") as run:
        run.log_artifact(wherry.Artifact("a", "t"))
        raise ZeroDivisionError
    first, ended = recorder.noted
    assert first.offline and ended.offline
    assert (ended.facts.exit_code, ended.wait) == (1, False)


# ── runs that are in a store ───────────────────────────────────────────────────────────────────
def _state(id_: str, started: str = "2026-11-23T14:00:00.000Z", **said: object) -> pb.RunState:
    facts = pb.RunFacts(started=started, **said)  # type: ignore[arg-type]
    return pb.RunState(run=pb.Run(id=id_, project="cats", group="g"), facts=facts)


def test_stored_run_is_another(recorder: Recorder) -> None:
    """A run has W&B's names; where its end was not told it is running."""
    recorder.runs = [
        _state("one", ended="2026-11-23T15:00:00.000Z", config=b'{"a": 1}', tags=["t"], notes="n"),
        _state("two", ended="2026-11-23T15:00:00.000Z", exit_code=3),
        _state("three"),
    ]
    api = wherry.Api({"project": "cats"})
    runs = api.runs("anybody/cats")
    assert [run.state for run in runs] == ["finished", "failed", "running"]
    one = api.run("cats/one")
    assert one == runs[0] and hash(one) == hash(runs[0]) and one != runs[1]
    assert (one.id, one.name, one.project, one.entity) == ("one", "one", "cats", None)
    assert (one.group, one.job_type, one.path) == ("g", None, ["cats", "one"])
    assert (one.config, one.tags, one.notes, one.url) == ({"a": 1}, ["t"], "n", None)
    assert (one.created_at, one.ended_at) == (
        "2026-11-23T14:00:00.000Z",
        "2026-11-23T15:00:00.000Z",
    )
    assert (runs[1].exit_code, one.exit_code, runs[2].ended_at) == (3, None, None)
    assert "one" in repr(one)
    with pytest.raises(NotFoundError, match="no run cats/four"):
        api.run("four")


def test_filter_is_passed_over(recorder: Recorder) -> None:
    """Runs are chosen and ordered as W&B's programs do; what can't be is an error that says what can."""
    recorder.runs = [_state("new", exit_code=1, ended="x"), _state("old")]
    api = wherry.Api({"project": "cats"})
    assert [run.id for run in api.runs(filters={"group": "g", "state": "failed"})] == ["new"]
    assert [run.id for run in api.runs(order="+created_at")] == ["old", "new"]
    with pytest.raises(UsageError, match="tags"):
        api.runs(filters={"tags": "t"})
    with pytest.raises(UsageError, match="summary"):
        api.runs(order="-summary.loss")


def test_artifacts_of_a_run_are_read_for_nothing(recorder: Recorder) -> None:
    """What a run logged is read one by one, when it is asked for; what was deleted is passed over."""
    run = wherry.init(project="cats")
    for number in range(3):
        run.log_artifact(wherry.Artifact(f"a{number}", "t"))
        recorder.commit(number, 0)
    state = _state("one")
    state.logged[:] = ["cats/a0:v0", "cats/gone:v0", "cats/a1:v0", "cats/a2:v0"]
    state.used[:] = ["cats/a0:v0"]
    recorder.runs = [state]
    found = wherry.Api({"project": "cats"}).run("one")
    logged = found.logged_artifacts()
    assert logged[0].name == "a0:v0"
    assert logged[1].name == "a1:v0"
    assert [each.name for each in logged] == ["a0:v0", "a1:v0", "a2:v0"]
    assert (len(logged), logged[-1].name, len(logged[1:])) == (3, "a2:v0", 2)
    assert [each.name for each in found.used_artifacts()] == ["a0:v0"]
    with pytest.raises(IndexError):
        logged[3]


def test_users_of_a_version_are_others(recorder: Recorder) -> None:
    """``used_by`` gives the runs that used it, the last that began first; ``logged_by`` its maker."""
    run = wherry.init(project="cats")
    artifact = run.log_artifact(wherry.Artifact("model", "model"))
    recorder.commit(0, 0)
    recorder.runs = [_state("r4", "2026-11-23T15:00:00Z"), _state("r3", "2026-11-23T14:00:00Z")]
    assert [user.id for user in artifact.used_by()] == ["r4", "r3"]
    assert recorder.asked_runs[-1].used == "cats/model:v0"
    recorder.runs = [_state(run.id)]
    logger = artifact.logged_by()
    assert logger is not None and logger.id == run.id
