"""What all integrations share: which run logs, and what becomes of a checkpoint that can't be logged."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import contents
from wherry.errors import BadMetadata, BadName, FileChanged, LibraryMissing, UsageError
from wherry.integrations.checkpoints import Checkpoint, CheckpointLog


@pytest.fixture(autouse=True)
def _detached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait at the end of a run only where a test looks at that."""
    monkeypatch.setenv("WHERRY_FINISH", "detach")


def _log(name: str | None = "m", policy: str = "mutable") -> CheckpointLog:
    return CheckpointLog(name, "p", {"lr": 0.1}, policy)


def _written(step: int, *, is_best: bool = False) -> Checkpoint:
    path = Path(f"step-{step}.ckpt")
    path.write_text(f"weights {step}")
    return Checkpoint(str(path), "model.ckpt", {"step": step}, is_best)


def _steps(recorder: Recorder) -> list[str]:
    return [bytes(each.header.metadata).decode() for each in recorder.logged]


def test_users_run_is_finished(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are logged by the active run, which goes on when the training ends; nobody waits."""
    monkeypatch.setenv("WHERRY_FINISH", "wait")
    with wherry.init(project="theirs") as run:
        log = _log()
        log.begin()
        log.log(_written(1, is_best=True))
        log.end()
        assert wherry.run is run
        assert recorder.waits == []
        wherry.log_artifact(wherry.Artifact("after", type="t"))
        recorder.commit(0, 0)
        recorder.commit(1, 0)
    header = recorder.logged[0].header
    assert (header.project, header.name, header.type, list(header.aliases)) == (
        "theirs",
        "m",
        "model",
        ["best"],
    )
    assert header.metadata == b'{"lr":0.1,"step":1}'


def test_own_run_is_left_open(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an active run one is made, which is finished, and so waited for, at the training's end."""
    monkeypatch.setenv("WHERRY_FINISH", "wait")
    log = _log(name=None)
    log.begin()
    own = wherry.run
    assert own is not None and (own.project, own.job_type) == ("p", "train")
    log.log(_written(1))
    assert recorder.waits == []
    recorder.commit(0, 0)
    log.end()
    assert wherry.run is None
    assert recorder.logged[0].header.name == f"model-{own.id}"
    assert len(recorder.waits) == 1


def test_run_of_a_failed_training_logs_the_next(recorder: Recorder) -> None:
    """A training that never came to its end leaves a run, which is finished before the next one begins."""
    log = _log()
    log.begin()
    first = wherry.run
    log.begin()
    assert wherry.run is not first
    log.end()
    assert wherry.run is None


def test_refused_checkpoint_ends_the_training(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be logged now is logged with the next one, before it, as it was when it was written."""
    log = _log()
    log.begin()
    recorder.refuse("Log", "QueueLocked")
    first = _written(1)
    log.log(first)
    Path(first.path).unlink()
    assert "step-1.ckpt is not logged yet" in capsys.readouterr().err
    log.log(_written(2))
    log.end()
    assert _steps(recorder) == ['{"lr":0.1,"step":1}', '{"lr":0.1,"step":2}']
    assert "not logged" not in capsys.readouterr().err


def test_lost_checkpoint_goes_untold(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that never can be logged is told at once and at the end, and the others are logged."""
    log = _log()
    log.begin()
    recorder.refuse("Log", "TypeTaken")
    log.log(_written(1))
    log.log(Checkpoint("gone.ckpt", "model.ckpt", {}, is_best=False))
    log.log(_written(3))
    said = capsys.readouterr().err
    assert "step-1.ckpt is not logged: refused" in said
    assert "gone.ckpt is not logged: There is no file" in said
    log.end()
    assert "not logged: step-1.ckpt, gone.ckpt." in capsys.readouterr().err
    assert _steps(recorder) == ['{"lr":0.1,"step":3}']


@pytest.mark.parametrize(("changes", "is_logged"), [(2, True), (3, False)])
def test_folder_that_others_write_to_is_given_up(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, changes: int, is_logged: bool
) -> None:
    """A folder that another process still writes to is captured again, three times in all."""
    folder = Path("checkpoint-1")
    folder.mkdir()
    (folder / "a").write_text("a")
    real, left = contents.Contents.add_folder, [changes]

    def changing(self: contents.Contents, *args: object, **options: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise FileChanged("rng_state_1.pth changed while it was captured.")
        real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(contents.Contents, "add_folder", changing)
    log = _log()
    log.begin()
    log.log(Checkpoint(str(folder), None, {}, is_best=False))
    log.end()
    assert [each.paths for each in recorder.logged] == ([["a"]] if is_logged else [])


def test_callback_can_not_be_sent_to_a_process() -> None:
    """Before it begins it can be pickled, as trainers do that spawn their processes."""
    assert vars(pickle.loads(pickle.dumps(_log()))) == vars(_log())


def test_mistake_is_found_after_hours() -> None:
    """A name, metadata or a policy that can't be is an error where the callback is made."""
    with pytest.raises(BadName):
        CheckpointLog("a/b", None, None, "mutable")
    with pytest.raises(BadName):
        CheckpointLog("a", "p/q", None, "mutable")
    with pytest.raises(BadMetadata):
        CheckpointLog("a", None, {"x": object()}, "mutable")
    with pytest.raises(UsageError):
        CheckpointLog("a", None, None, "copy")


def test_disabled_mode_logs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In disabled mode nothing is logged, and nothing fails."""
    monkeypatch.setenv("WHERRY_MODE", "disabled")
    log = _log()
    log.begin()
    log.log(_written(1))
    log.end()
    assert not home.exists()


def test_linked_checkpoint_is_lost(recorder: Recorder) -> None:
    """With ``immutable`` a checkpoint that is rotated away stays in the spool, by a link."""
    log = _log(policy="immutable")
    log.begin()
    checkpoint = _written(1)
    Path(checkpoint.path).write_text("w" * 100_000)
    log.log(checkpoint)
    (entry,) = recorder.logged[0].entries
    assert Path(checkpoint.path).stat().st_nlink == 2
    Path(checkpoint.path).unlink()
    assert entry.size == 100_000
    log.end()


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_missing_framework_is_a_riddle(name: str) -> None:
    """A framework that is not installed is an ImportError that says what to install."""
    with pytest.raises(LibraryMissing, match=f"pip install {name}") as caught:
        __import__(f"wherry.integrations.{name}")
    assert isinstance(caught.value, ImportError)
