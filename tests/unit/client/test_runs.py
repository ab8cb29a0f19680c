"""``init``, what stands at the top level, and the modes."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors, notices, starting
from wherry.wire import places


def test_run_forgets_its_arguments(recorder: Recorder) -> None:
    """A run has what it was given; ``wherry.run`` is it."""
    run = wherry.init(
        project="cats",
        entity="me",
        job_type="train",
        group="g",
        name="n",
        id="run1",
        config={"lr": 1},
        tags=["t"],
        notes="x",
        dir="/tmp",
    )
    assert wherry.run is run
    assert (run.project, run.entity, run.job_type, run.group) == ("cats", "me", "train", "g")
    assert (run.name, run.id, run.tags, run.notes, run.dir) == ("n", "run1", ("t",), "x", "/tmp")
    assert (run.mode, run.disabled, run.offline, run.url) == ("online", False, False, None)
    assert run.path == "me/cats/run1"


def test_defaults_differ(recorder: Recorder) -> None:
    """Without arguments: project ``uncategorized``, an id of eight letters and digits, no group."""
    run = wherry.init()
    assert re.fullmatch("[0-9a-z]{8}", run.id)
    assert (run.project, run.name, run.group, run.job_type) == ("uncategorized", run.id, None, None)
    assert len({starting.new_run_id() for _ in range(1000)}) == 1000


def test_arguments_lose_to_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Arguments win over ``settings``, those over the environment, that over ``config.toml``."""
    (home / places.CONFIG).write_text('project = "file"\njob_type = "file"\nrun_group = "file"\n')
    monkeypatch.setenv("WHERRY_PROJECT", "env")
    monkeypatch.setenv("WHERRY_JOB_TYPE", "env")
    monkeypatch.setenv("WHERRY_RUN_ID", "env")
    run = wherry.init("argument", settings=wherry.Settings(run_job_type="said", project="said"))
    assert (run.project, run.job_type, run.group, run.id) == ("argument", "said", "file", "env")
    assert wherry.init(settings={"finish": "detach"}).settings.finish == "detach"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"project": "a/b"}, errors.BadName),
        ({"id": ".."}, errors.BadName),
        ({"group": "x" * 129}, errors.BadName),
        ({"entity": "a:b"}, errors.BadName),
        ({"mode": "loud"}, errors.BadSetting),
        ({"store": "ftp://x"}, errors.BadURI),
        ({"config": 3}, errors.UsageError),
    ],
)
def test_bad_argument_makes_a_run(
    recorder: Recorder, arguments: dict[str, object], kind: type[Exception]
) -> None:
    """A bad argument raises at ``init``, and no run is active."""
    with pytest.raises(kind):
        wherry.init(**arguments)  # type: ignore[arg-type] # each case is wrong in its way
    assert wherry.run is None


def test_removed_working_folder_stops_a_run(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run needs no working folder; where that was removed it has none to name."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with wherry.init(project="p") as run:
        assert run.dir == ""


def test_unknown_keywords_are_refused(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's further keywords are accepted and warned of once."""
    monkeypatch.setattr(notices, "_said", set())
    with pytest.warns(UserWarning, match="'reinit'"):
        wherry.init(reinit=True, settings=wherry.Settings(entity="me"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wherry.init(reinit=False)
    with pytest.warns(UserWarning, match="'console'"):
        wherry.init(settings={"console": "off"})
    with pytest.warns(UserWarning, match="drops metrics"):
        wherry.log({"loss": 1})
    assert wherry.login(key="x")


def test_runs_get_in_each_others_way(recorder: Recorder) -> None:
    """Several runs may be active; the last that is not finished is ``wherry.run``."""
    first = wherry.init(project="a")
    second = wherry.init(project="b")
    first.log_artifact(wherry.Artifact("x", "y"))
    wherry.log_artifact(wherry.Artifact("x", "y"))
    assert [logged.header.project for logged in recorder.logged] == ["a", "b"]
    current = [wherry.run]
    for run in (second, first):
        run.settings = run.settings._replace(finish="detach")
        wherry.finish()
        current.append(wherry.run)
    assert current == [second, first, None]
    wherry.finish()


def test_top_level_without_a_run(recorder: Recorder) -> None:
    """Without a run, what needs one says to call ``init``."""
    for call in (
        lambda: wherry.log_artifact(wherry.Artifact("x", "y")),
        lambda: wherry.use_artifact("x:latest"),
        lambda: wherry.config["lr"],
    ):
        with pytest.raises(errors.UsageError, match=r"wherry\.init\(\)"):
            call()


def test_config_is_no_dict(recorder: Recorder) -> None:
    """The config is a dict whose keys are attributes too; ``wherry.config`` is the current run's."""
    run = wherry.init(config=argparse.Namespace(lr=0.1, depth=3))
    assert (run.config.lr, run.config["depth"], dict(run.config)) == (
        0.1,
        3,
        {"lr": 0.1, "depth": 3},
    )
    run.config.update({"lr": 0.2}, allow_val_change=True)
    run.config.extra = "x"
    wherry.config.setdefaults({"lr": 9, "new": 1})
    assert wherry.config.as_dict() == {"lr": 0.2, "depth": 3, "extra": "x", "new": 1}
    assert "lr" in wherry.config and wherry.config.get("none") is None
    assert not hasattr(run.config, "none")
    del run.config["lr"]
    assert len(wherry.config) == 3


# ── paths ──────────────────────────────────────────────────────────────────────────────────────
def test_logged_path_is_named_otherwise(recorder: Recorder, tmp_path: Path) -> None:
    """A path is logged as ``run-<id>-<base name>`` of type ``unspecified``: file, folder and URI."""
    (tmp_path / "d:1" / "deep").mkdir(parents=True)
    (tmp_path / "d:1" / "deep" / "f").write_text("x")
    run = wherry.init(id="run1")
    run.log_artifact(tmp_path / "d:1" / "deep" / "f")
    run.log_artifact(f"{tmp_path}/d:1/")
    run.log_artifact((tmp_path / "d:1" / "deep").as_uri(), name="given", type="dataset")
    run.log_model("d:1/deep/f", aliases=["a"])
    logged = [(each.header.name, each.header.type, each.paths) for each in recorder.logged]
    assert logged == [
        ("run-run1-f", "unspecified", ["f"]),
        ("run-run1-d_1", "unspecified", ["deep/f"]),
        ("given", "dataset", ["f"]),
        ("run-run1-f", "model", ["f"]),
    ]
    with pytest.raises(FileNotFoundError):
        run.log_artifact("missing")
    with pytest.raises(errors.BadName):
        run.log_artifact("d:1", name="a:b")


def test_save_needs_a_run(recorder: Recorder) -> None:
    """``save`` logs by the active run, or by one of its own."""
    with wherry.init(project="cats", id="run1", settings={"finish": "detach"}):
        wherry.Artifact("a", "t").save()
    wherry.Artifact("b", "t").save(project="dogs", settings={"finish": "detach"})
    headers = [logged.header for logged in recorder.logged]
    assert [(h.name, h.project, h.run.job_type) for h in headers] == [
        ("a", "cats", ""),
        ("b", "dogs", "auto"),
    ]
    assert wherry.run is None


def test_own_name_is_refused(recorder: Recorder, tmp_path: Path) -> None:
    """A long file name that takes many bytes in a key is cut, as it was not chosen as a name."""
    path = tmp_path / ("日" * 70 + ".pt")
    path.write_text("x")
    wherry.init(id="r").log_artifact(path)
    assert recorder.logged[0].header.name.startswith("run-r-日日")


def test_removed_working_folder_stops_the_run(recorder: Recorder, tmp_path: Path) -> None:
    """A run begins and logs in a working folder that is gone; what needs the folder says so."""
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    run, artifact = wherry.init(), wherry.Artifact("a", "t")
    assert run.dir == ""
    with artifact.new_file("x") as file:
        file.write("x")
    run.log_artifact(artifact)
    recorder.commit(0, 0)
    with pytest.raises(errors.DownloadError, match="artifacts"):
        artifact.download()


# ── disabled ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_disabled_mode_does_something(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """In disabled mode nothing is read, written or started, and everything returns something."""
    if how == "environment":
        monkeypatch.setenv("WHERRY_MODE", "disabled")
    with wherry.init(project="cats", mode="disabled" if how == "argument" else None) as run:
        assert run.disabled
        artifact = wherry.Artifact("model", "model", metadata={"a": 1})
        entry = artifact.add_file("not/there.pt")
        artifact.add_dir("nowhere")
        artifact.add_reference("s3://b/x", checksum=False)
        artifact.add_reference("file:///not/there")
        with pytest.raises(errors.UsageError, match="mode 'r'"):
            artifact.new_file("r.txt", "r").__enter__()
        with artifact.new_file("n.txt") as file:
            file.write("forgotten")
        with artifact.new_file("b", mode="xb") as binary:
            binary.write(b"forgotten")
        assert entry.path == "there.pt"
        assert run.log_artifact(artifact, aliases=["a"]).wait() is artifact
        assert (artifact.version, artifact.name, artifact.state) == ("v0", "model:v0", "COMMITTED")
        assert artifact.qualified_name == "cats/model:v0"
        assert artifact.digest.startswith("sha256:") and entry.digest is None
        used = run.use_artifact("other/data:v3", type="dataset")
        assert (used.version, used.type, used.qualified_name) == ("v3", "dataset", "other/data:v3")
        assert os.path.isdir(used.download())
        assert os.path.isdir(run.use_model("m:latest"))
        run.log_artifact(tmp_path)
        used.verify()
    assert not home.exists()
    assert wherry.run is None


def test_disabled_artifact_is_logged(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was built in disabled mode was not captured, so an online run refuses it."""
    with wherry.init(mode="disabled"):
        artifact = wherry.Artifact("model", "model")
        artifact.add_file("f")
    with pytest.raises(errors.ArtifactStateError, match="disabled mode"):
        wherry.init().log_artifact(artifact)
    assert recorder.logged == []


def test_version_of_disabled_mode_stays(recorder: Recorder) -> None:
    """What is logged for real has its real version, whichever disabled run has seen it before or after."""
    run, artifact = wherry.init(), wherry.Artifact("model", "model")
    disabled = wherry.init(mode="disabled")
    disabled.log_artifact(artifact)
    assert artifact.version == "v0"
    run.log_artifact(artifact)
    disabled.log_artifact(artifact)
    recorder.commit(0, 3)
    assert artifact.wait().version == "v3"


# ── other processes ────────────────────────────────────────────────────────────────────────────
def test_unwritable_home_is_found_late(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that can't be used raises at ``init``."""
    home.write_text("in the way")
    with pytest.raises(errors.BadSetting, match="home"):
        wherry.init()


_PARENT = """
import multiprocessing, sys, wherry

def log(name):
    run = wherry.init(project="cats")
    artifact = wherry.Artifact(name, "model")
    with artifact.new_file("f") as file:
        file.write(name)
    run.log_artifact(artifact)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[1] == "fork":
        log("parent")
    children = [context.Process(target=log, args=(f"m{n}",)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0, child.exitcode
    import os
    os._exit(0)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_children_of_multiprocessing_log_nothing(
    recorder: Recorder, tmp_path: Path, method: str
) -> None:
    """Children of ``multiprocessing`` log and end without waiting: their work is the daemon's."""
    (tmp_path / "parent.py").write_text(_PARENT)
    subprocess.run([sys.executable, "parent.py", method], check=True, timeout=60)
    names = {logged.header.name for logged in recorder.logged}
    assert names - {"parent"} == {"m0", "m1"}
    assert recorder.waits == []


def test_spawned_child_leaves_early(recorder: Recorder, tmp_path: Path) -> None:
    """A spawned child is a Python of its own that runs its exit hooks, and waits like any script."""
    (tmp_path / "parent.py").write_text(_PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py", "spawn"])
    paused = threading.Event()
    while len(recorder.waits) < 2 and parent.poll() is None:
        paused.wait(0.01)
    for number in range(2):
        recorder.commit(number, 0)
    assert parent.wait(60) == 0
    assert len(recorder.logged) == 2


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (
            lambda: wherry.Artifact("a", "t", description="a\udcff"),
            errors.UsageError,
            "description",
        ),
        (lambda: wherry.init(name="a\udcff"), errors.UsageError, "run's name"),
        (lambda: wherry.init(notes="a\udcff"), errors.UsageError, "run's notes"),
        (lambda: wherry.init(job_type="a\udcff"), errors.UsageError, "job type"),
        (
            lambda: wherry.Artifact("a", "t").add_reference("s3://b/\udcff", "n", checksum=False),
            errors.BadURI,
            "UTF-8",
        ),
    ],
)
def test_text_that_is_no_unicode_is_found_out_later(
    recorder: Recorder, call: Callable[[], object], error: type[Exception], what: str
) -> None:
    """Text made of other bytes than UTF-8 raises where it is given, and an error of ours."""
    with pytest.raises(error, match=what):
        call()


def test_warning_names_no_line(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """What is accepted without effect is warned of at the program's own line."""
    monkeypatch.setattr("wherry.notices._said", set())
    wherry.init(reinit=True, settings={"start_method": "fork"})
    assert [each.filename for each in recwarn] == [__file__, __file__]
