"""``wait()`` and what an artifact says of itself before and after the commit."""

from __future__ import annotations

import copy
import threading

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors


@pytest.fixture
def run(recorder: Recorder) -> wherry.Run:
    return wherry.init(project="cats", entity="me", id="run1")


def logged(run: wherry.Run, name: str = "model") -> wherry.Artifact:
    artifact = wherry.Artifact(name, "model", metadata={"a": 1})
    with artifact.new_file("f") as file:
        file.write("x")
    return run.log_artifact(artifact, aliases=["best"])


def test_wait_returns_before_the_commit(recorder: Recorder, run: wherry.Run) -> None:
    """``wait`` returns the artifact when its request is done, aliases and all."""
    artifact = logged(run)
    request_id = recorder.logged[0].header.request_id
    returned = threading.Event()

    def wait() -> None:
        assert artifact.wait() is artifact
        returned.set()

    thread = threading.Thread(target=wait)
    thread.start()
    for state in ("prepared", "uploaded", "sending", "settled"):
        recorder.tell(request_id, state=state, version=3)
        assert not returned.wait(0.02)
    recorder.commit(0, 3)
    assert returned.wait(10)
    thread.join()
    assert artifact.version == "v3"


def test_before_the_commit_it_has_a_version(recorder: Recorder, run: wherry.Run) -> None:
    """Before the commit there is no version, and the error names ``wait()``."""
    draft = wherry.Artifact("model", "model")
    for artifact in (draft, logged(run)):
        with pytest.raises(errors.ArtifactNotLoggedError, match=r"wait\(\)"):
            _ = artifact.version
        assert (artifact.state, artifact.name, artifact.id) == ("PENDING", "model", None)
        assert artifact.is_draft()
        assert artifact.created_at is None
    with pytest.raises(errors.ArtifactNotLoggedError, match="log_artifact"):
        draft.wait()
    with pytest.raises(errors.ArtifactNotLoggedError):
        draft.download()
    with pytest.raises(errors.ArtifactNotLoggedError):
        _ = draft.project


def test_after_the_commit_it_has_none(recorder: Recorder, run: wherry.Run) -> None:
    """Once committed it says so by itself, without ``wait``, and tells what the store has."""
    artifact = logged(run)
    recorder.commit(0, 3)
    assert (artifact.version, artifact.name, artifact.state) == ("v3", "model:v3", "COMMITTED")
    assert artifact.qualified_name == "me/cats/model:v3"
    assert (artifact.project, artifact.entity, artifact.type) == ("cats", "me", "model")
    assert artifact.aliases == ["best", "latest"]
    assert artifact.id == recorder.logged[0].header.request_id
    assert artifact.created_at == "2026-11-23T14:00:00.123Z"
    assert artifact.digest == "sha256:" + "d" * 64
    assert artifact.commit_hash == "sha256:" + "e" * 64
    assert artifact.metadata == {"a": 1}
    assert not artifact.is_draft()
    assert (artifact.source_name, artifact.source_version) == ("model:v3", "v3")
    assert artifact.get_entry("f").ref_url() == "wherry-artifact://cats/model:v3/f"
    assert wherry.Api({"project": "cats"}).artifact("model").qualified_name == "me/cats/model:v3"


def test_settled_is_not_committed(recorder: Recorder, run: wherry.Run) -> None:
    """A version exists when it is settled, though its aliases are not set yet."""
    artifact = logged(run)
    recorder.tell(recorder.logged[0].header.request_id, state="settled", version=2)
    assert artifact.version == "v2"
    with pytest.raises(errors.WaitTimeoutError, match="aliases"):
        artifact.wait(0.05)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "accepted"}, "hashed"),
        ({"state": "prepared"}, "uploaded"),
        ({"state": "uploaded", "ahead": 3}, "3 before it"),
        ({"state": "sending"}, "version is being written"),
        (
            {"state": "prepared", "error": "StoreUnavailable", "reason": "no answer\n  hint"},
            r"StoreUnavailable: no answer\)",
        ),
    ],
)
def test_timeout_does_not_name_the_stage(
    recorder: Recorder, run: wherry.Run, fields: dict[str, object], words: str
) -> None:
    """A wait that takes too long raises, names the stage, and the work goes on."""
    artifact = logged(run)
    recorder.tell(recorder.logged[0].header.request_id, **fields)
    with pytest.raises(TimeoutError, match=words) as raised:
        artifact.wait(timeout=0.05)
    assert isinstance(raised.value, errors.WaitTimeoutError)
    recorder.commit(0, 0)
    assert artifact.wait(10).version == "v0"


def test_failure_is_forgotten(recorder: Recorder, run: wherry.Run) -> None:
    """What failed raises its own class, with reason and remedy, each time it is asked."""
    artifact = logged(run)
    recorder.tell(
        recorder.logged[0].header.request_id,
        state="failed",
        error="FileChanged",
        reason="f changed\n  log it again",
    )
    for _ in range(2):
        with pytest.raises(errors.FileChanged, match="f changed") as raised:
            artifact.wait()
        assert raised.value.hint == "log it again"
    with pytest.raises(errors.FileChanged):
        _ = artifact.version
    assert (artifact.state, artifact.name) == ("PENDING", "model")


def test_cancelled_request_is_waited_for(recorder: Recorder, run: wherry.Run) -> None:
    """A request that was taken back raises ``Cancelled``."""
    artifact = logged(run)
    recorder.tell(recorder.logged[0].header.request_id, state="cancelled")
    with pytest.raises(errors.Cancelled, match=r"cats/model.*cancelled[^`]*Log it again"):
        artifact.wait()


def test_digest_waits_for_nothing(recorder: Recorder, run: wherry.Run) -> None:
    """The digest of what is logged is the store's: asking waits for the commit."""
    artifact = logged(run)
    threading.Timer(0.05, lambda: recorder.commit(0, 0)).start()
    assert artifact.digest == "sha256:" + "d" * 64


def test_using_does_not_wait(recorder: Recorder, run: wherry.Run) -> None:
    """Using what was logged just now waits for it, by object and by name, and notes the input."""
    artifact = logged(run)
    threading.Timer(0.05, lambda: recorder.commit(0, 0)).start()
    assert run.use_artifact(artifact) is artifact
    logged(run)
    threading.Timer(0.05, lambda: recorder.commit(1, 1)).start()
    used = run.use_artifact("model:latest", type="model")
    assert (used.version, used.metadata, used.state) == ("v1", {"a": 1}, "COMMITTED")
    run.log_artifact(wherry.Artifact("other", "model"))
    assert list(recorder.logged[2].header.inputs) == ["cats/model:v0", "cats/model:v1"]


def test_failed_version_hides_the_store(recorder: Recorder, run: wherry.Run) -> None:
    """Using by name what failed just now gives what the store has."""
    logged(run)
    recorder.commit(0, 0)
    logged(run)
    recorder.tell(recorder.logged[1].header.request_id, state="failed", error="FileChanged")
    assert run.use_artifact("model:latest").version == "v0"


def test_use_of_what_is_missing(recorder: Recorder, run: wherry.Run) -> None:
    """A missing artifact, version, or one of another type raises a class of its own."""
    logged(run)
    recorder.commit(0, 0)
    with pytest.raises(errors.NotFoundError):
        run.use_artifact("nothing:latest")
    with pytest.raises(LookupError):
        run.use_artifact("model:v7")
    with pytest.raises(ValueError, match="is a model"):
        run.use_artifact("model:v0", type="dataset")
    with pytest.raises(errors.BadName):
        run.use_artifact("a/b/c/d:v0")


def test_unlogged_artifact_cannot_be_used(recorder: Recorder, run: wherry.Run) -> None:
    """Using an Artifact that was not logged logs it first, as W&B does."""
    threading.Timer(0.1, lambda: recorder.commit(0, 0)).start()
    run.use_artifact(wherry.Artifact("fresh", "model"), aliases=["mine"])
    assert list(recorder.logged[0].header.aliases) == ["mine"]


def test_version_can_be_changed(recorder: Recorder, run: wherry.Run) -> None:
    """A version that was found takes nothing more, and can't be copied into something that does."""
    logged(run)
    recorder.commit(0, 0)
    found = run.use_artifact("model:v0")
    with pytest.raises(errors.ArtifactStateError, match="can't be changed"):
        found.add_file("x")
    with pytest.raises(errors.NotYet, match="copied or pickled"):
        copy.copy(found)


def test_group_is_not_asked_for(recorder: Recorder, run: wherry.Run) -> None:
    """Upsert and finish without a group or an id raise the TypeError that ports expect."""
    for call in (run.upsert_artifact, run.finish_artifact):
        with pytest.raises(TypeError, match="distributed_id"):
            call(wherry.Artifact("a", "b"))
    grouped = wherry.init(group="g")
    part = grouped.upsert_artifact(wherry.Artifact("a", "b"))
    whole = grouped.finish_artifact(
        wherry.Artifact("a", "b"), distributed_id="d", on_conflict="newest"
    )
    assert (part.distributed_id, whole.distributed_id) == ("g", "d")
    with pytest.raises(errors.UsageError, match="newest"):
        grouped.finish_artifact(wherry.Artifact("a", "b"), on_conflict="oldest")


def test_wait_is_a_silent_hang(
    recorder: Recorder,
    run: wherry.Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who waits is told how far it is, and why it does not go on, as at the end of a script."""
    monkeypatch.setattr("wherry.progress._EVERY_S", 0.0)
    artifact = logged(run)
    trouble = {
        "error": "StoreMissing",
        "reason": "The folder /mnt/store is not there.\n  Mount it.",
    }
    recorder.tell(recorder.logged[0].header.request_id, state="prepared", **trouble)
    with pytest.raises(errors.WaitTimeoutError):
        artifact.wait(0.2)
    assert "The folder /mnt/store is not there." in capsys.readouterr().err
