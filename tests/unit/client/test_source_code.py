"""``log_code``: which files are the program's source, and what the artifact is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import source_code

SOURCE = ["Dockerfile.gpu", "pkg/model.py", "requirements.txt", "train.py"]
OTHERS = [
    "data.csv",
    "pkg/notes.md",
    ".git/hook.py",
    "node_modules/x/gyp.py",
    "pkg/__pycache__/model.py",
    "wandb/run/code.py",
    "env/lib/python3/site.py",
    "conda/lib/site.py",
    "store/x.py",
]


@pytest.fixture
def run(recorder: Recorder, tmp_path: Path) -> wherry.Run:
    """A run beside a program's folder, which is the working folder."""
    for path in (*SOURCE, *OTHERS):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    (tmp_path / "env/pyvenv.cfg").touch()
    (tmp_path / "conda/conda-meta").mkdir()
    (tmp_path / "store/wherry.json").touch()
    (tmp_path / "gone.py").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    return wherry.init(project="cats")


def test_other_files_are_logged(run: wherry.Run, recorder: Recorder) -> None:
    """By default Python's files and what sets the program up are logged, wherever no tool has put them."""
    artifact = run.log_code()
    assert artifact is not None
    assert artifact.type == "code"
    assert sorted(recorder.read) == SOURCE
    assert recorder.read["pkg/model.py"] == b"pkg/model.py"


def test_choice_is_not_heeded(run: wherry.Run, recorder: Recorder, tmp_path: Path) -> None:
    """What is chosen counts, by functions of a path, or of a path and the root; the root may be another."""
    asked = []

    def leave_out(path: str, root: str) -> bool:
        asked.append(root)
        return os.path.relpath(path, root).startswith("model")

    artifact = run.log_code("pkg", name="mine", include_fn=lambda _: True, exclude_fn=leave_out)
    assert artifact is not None and artifact.base_name == "mine"
    assert sorted(recorder.read) == ["notes.md"]
    assert set(asked) == {str(tmp_path / "pkg")}


def test_home_is_logged(recorder: Recorder, home: Path) -> None:
    """The home, with the spool and all that is in it, is left out whatever is chosen."""
    run = wherry.init(project="cats")
    (home.parent / "x.py").touch()
    (home / "in-home.py").touch()
    run.log_code(str(home.parent), include_fn=lambda path: path.endswith(".py"))
    assert "x.py" in recorder.read
    assert not any("in-home" in path for path in recorder.read)


@pytest.mark.filterwarnings("ignore:wherry. log_code.. found no source")
def test_nothing_is_logged_as_something(
    run: wherry.Run, recorder: Recorder, tmp_path: Path
) -> None:
    """Where no file is chosen nothing is logged, and None is given."""
    assert run.log_code(include_fn=lambda path: False) is None
    assert run.log_code(None) is None
    assert run.log_code(str(tmp_path / "nowhere")) is None
    assert recorder.logged == []


def test_disabled_mode_reads_the_source(recorder: Recorder) -> None:
    """In disabled mode no folder is looked at, and the artifact looks as if it were logged."""
    run = wherry.init(mode="disabled")

    def look(path: str) -> bool:
        raise AssertionError(path)

    artifact = run.log_code("/", include_fn=look)
    assert artifact is not None and artifact.version == "v0"


@pytest.mark.parametrize("is_repository", [True, False])
def test_program_is_called_otherwise(
    is_repository: bool, recorder: Recorder, home: Path, tmp_path: Path
) -> None:
    """The artifact is named by project and the program's path in its repository, else where it runs."""
    file, folder = tmp_path / "src" / "my train.py", tmp_path
    file.parent.mkdir()
    file.write_text("import wherry; print(wherry.init(project='my cats').log_code().base_name)")
    if is_repository:
        (tmp_path / ".git").mkdir()
        folder = file.parent
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=folder,
        env={**os.environ, "WHERRY_HOME": str(home), "WHERRY_FINISH": "detach"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"source-my_cats-src_my_train.py\n"
    assert list(recorder.read) == (["my train.py"] if is_repository else ["src/my train.py"])


def test_name_is_too_long(run: wherry.Run) -> None:
    """A long name keeps its ends; a program without a file has none."""
    name = source_code.artifact_name("p" * 200)
    assert len(name) == 128
    assert name.startswith("source-ppp") and ".." in name
