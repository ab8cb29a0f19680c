"""The command as a whole: exit codes, errors, help, what its start costs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, Refusal, pb, request
from wherry.cli import files
from wherry.cli.app import WHERRY
from wherry.cli.command import Command, Group, _Parser
from wherry.errors import WherryError

_COMMANDS = [
    *(
        [
            "put",
            "get",
            "ls",
            "show",
            "alias",
            "lineage",
            "status",
            "queue",
            "wait",
            "retry",
            "cancel",
            "acknowledge",
            "sync",
            "drain",
            "gc",
            "doctor",
        ]
    ),
    *(f"cache {name}" for name in ("status", "cleanup")),
    *(f"daemon {name}" for name in ("start", "stop", "status", "logs")),
]
_LATER = ("verify",)


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wherry.cli", *args], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("args", "exit_code"),
    [
        (["daemon", "status"], 0),
        (["--version"], 0),
        (["daemon", "logs"], 1),
        (["put", "/there/is/no/such/file"], 1),
        (["queue", "--limit", "many"], 2),
        (["nonsense"], 2),
        (["put"], 2),
    ],
)
def test_exit_code_is_wrong(
    args: list[str], exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 is done, 1 failed, 2 wrong usage; an error is a line or two, and no traceback."""
    done = _run(*args)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(exit_code)
    if exit_code == 1:
        assert done.stderr.startswith("wherry: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("nonsense", "there is no command 'nonsense'\n  `wherry --help`"),
        ("stat", "'stat'; did you mean status?"),
        ("daemon strat", "'strat'; did you mean start?\n  `wherry daemon --help`"),
        ("-- status", "there is no command '--'"),
        ("--verb", "there is no option --verb"),
        ("put x --nme y", "there is no option --nme; did you mean --name?\n  `wherry put --help`"),
        ("put x --pol=immutable", "no option --pol; did you mean --policy?"),
        ("put", "PATH"),
        ("put x y", "'y' is one argument too many"),
        ("status -- --json", "'--json' is one argument too many"),
        ("put x --name", "--name: expected one argument"),
        ("put x --policy perhaps", "'mutable', 'immutable'"),
        ("put x --timeout=soon", "--timeout: 'soon' is no time; write 60s"),
        (
            "put x --store ftp://x",
            "--store: Wherry knows no store of the kind ftp://x. Use file://",
        ),
        ("queue --json=yes", "--json"),
        ("queue --limit 0", "--limit: '0' is no number from 1 on"),
        ("daemon logs -n -1", "--lines: '-1' is no number from 0 on"),
        ("cancel", "name requests, or say --all; one of these\n  `wherry cancel --help`"),
        ("gc", "say what to look for: --uploads"),
        ("alias model:v0 latest", "ALIAS...: latest is the highest version, and can't be moved."),
        ("alias model:v0 v7", "looks like a version number"),
        ("alias --remove model:v3 best", "name the artifact alone"),
        ("cache cleanup much", "SIZE: 'much' is not a number of bytes above 0, such as"),
    ],
)
def test_wrong_usage_is_a_riddle(wherry: Wherry, args: str, said: str) -> None:
    """What is wrong is named on standard error, and how to get help."""
    shown = wherry(*args.split(), exit_code=2)
    assert shown.stdout == ""
    assert shown.stderr.startswith("wherry: ") and shown.stderr.endswith("says how it is used.\n")
    assert said in shown.stderr


def test_order_counts(daemon: FakeDaemon, wherry: Wherry) -> None:
    """Options stand before, among and behind arguments, in each of their forms."""
    for args in (
        "cancel 1 --json 2",
        "cancel --json 1 2",
        "cancel -- 1 2",
        "wait --timeout=1s 1 2",
        "wait 1 --timeout 1s --json 2",
    ):
        shown = wherry(*args.split(), exit_code=1)
        assert shown.stderr.startswith("wherry: There is no request 1.")


def test_bare_command_is_done(wherry: Wherry) -> None:
    """Without a command the help is shown, on standard error: nothing was done."""
    for args in ((), ("daemon",)):
        shown = wherry(*args, exit_code=2)
        assert (shown.stdout, shown.stderr) == ("", wherry(*args, "-h").stdout)


def test_debug_hides_the_place() -> None:
    """With --debug, before the command or after it, the traceback shows."""
    for args in (["--debug", "daemon", "logs"], ["daemon", "logs", "--debug"]):
        done = _run(*args)
        assert done.returncode == 1
        assert "Traceback" in done.stderr and "NotFoundError" in done.stderr


def test_file_called_debug_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind ``--`` is no option."""
    monkeypatch.chdir(tmp_path)
    assert "Traceback" not in _run("put", "--", "--debug").stderr


def test_hint_is_not_shown(daemon: FakeDaemon, wherry: Wherry) -> None:
    """An error of ours is told as what happened, and below it what to do."""
    daemon.refusals["Status"] = Refusal("QueueLocked", "the queue is locked\n  end that program")
    shown = wherry("status", exit_code=1)
    assert shown.stderr == "wherry: the queue is locked\n  end that program\n"


def test_disk_error_is_a_traceback(wherry: Wherry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system is told with the file that it concerns."""

    def fail() -> None:
        raise PermissionError(13, "Permission denied", "/data/x")

    monkeypatch.setattr("wherry.cli.queue.settings", fail)
    shown = wherry("status", exit_code=1)
    assert shown.stderr == "wherry: Permission denied: /data/x\n"


def test_interrupt_is_a_traceback(wherry: Wherry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C says that the daemon goes on; the exit code is 1."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wherry.cli.queue.settings", interrupt)
    assert "goes on" in wherry("status", exit_code=1).stderr


def test_error_is_nameless(monkeypatch: pytest.MonkeyPatch, wherry: Wherry) -> None:
    """An error without a text is told by its class."""

    def fail() -> None:
        raise WherryError

    monkeypatch.setattr("wherry.cli.queue.settings", fail)
    assert wherry("status", exit_code=1).stderr == "wherry: WherryError\n"


def test_reader_leaves_early(daemon: FakeDaemon) -> None:
    """A reader that goes away (``| head``) is no error to tell of."""
    daemon.requests = [request(number) for number in range(1, 2000)]
    program = f"{sys.executable} -m wherry.cli queue --jsonl | head -1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["place"] == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "exit_code"), [(["queue", "--json"], 1), (["--help"], 0), (["wait", "9f3c21aa"], 1)]
)
def test_reader_has_left_before(daemon: FakeDaemon, args: list[str], exit_code: int) -> None:
    """What is short is written when the command ends; that nobody reads it is no error to tell of."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "wherry.cli", *args]
    for beside in (subprocess.PIPE, writer):
        done = subprocess.run(command, stdout=writer, stderr=beside, text=True, check=False)
        assert done.returncode == exit_code
        assert not done.stderr or done.stderr.startswith("wherry: There is no request")
    os.close(writer)


def test_full_disk_is_success() -> None:
    """Output that could not be written is told, and the exit code is 1."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wherry.cli", "daemon", "status"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "wherry: No space left on device\n"


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_teaches_nothing(wherry: Wherry, command: str) -> None:
    """Each command's help has a paragraph and an example, no wider than 80 columns."""
    shown = wherry(*command.split(), "--help").stdout
    assert f"\n  wherry {command}" in shown
    described = shown.partition("Options:")[0]
    assert max(len(line) for line in described.splitlines()) <= 80
    if "--json " in shown:
        assert "--json gives" in described


def test_command_is_missing(wherry: Wherry) -> None:
    """The list has what is built, and nothing of what comes later."""
    shown = wherry("--help").stdout.partition("Commands:")[2]
    listed = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert listed == [*(name for name in _COMMANDS if " " not in name), "cache", "daemon"]
    assert not set(listed) & set(_LATER)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("queue", ("--state", "done")),
        ("status", ()),
        ("doctor", ()),
        ("show", ("model",)),
        ("daemon status", ()),
        ("wait", ("--all",)),
        ("sync", ()),
        ("drain", ()),
        ("cancel", ("--all",)),
        ("gc", ("--uploads",)),
        ("cache status", ()),
        ("alias", ("model:v0", "best")),
        ("cache cleanup", ("0",)),
    ],
)
def test_key_is_not_documented(
    daemon: FakeDaemon,
    wherry: Wherry,
    as_json: Callable[..., Any],
    command: str,
    args: tuple[str, ...],
) -> None:
    """Each key that --json prints is named in the command's help."""
    daemon.requests = [request(1, state="done", version=0)]
    daemon.found = [pb.Version(project="cats", name="model")]
    daemon.uploads = [pb.StrayUpload(key="x")]
    found = as_json(*command.split(), *args)
    shown = wherry(*command.split(), "--help").stdout.partition("--json gives")[2]
    for key in found[0] if isinstance(found, list) else found:
        assert key in shown, key


def test_help_imports_everything() -> None:
    """The list of commands needs neither rich nor what talks to the daemon."""
    program = (
        "import sys; from wherry.cli.app import run; sys.argv = ['wherry', '--help'];"
        "code = run(); print(code, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    code, *loaded = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    heavy = {"rich", "asyncio", "grpc", "h2", "google.protobuf", "sqlite3", "aiohttp"}
    assert not heavy & set(loaded)
    assert not [name for name in loaded if name.startswith("wherryd")]


@pytest.mark.parametrize("args", [("queue", "--json"), ("queue",), ("status",), ("drain",)])
def test_command_imports_what_it_does_not_use(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    """A command imports its own module, and rich for a table that has rows."""
    daemon.requests = [request(1)] if args == ("queue", "--json") else []
    program = (
        "import sys; from wherry.cli.app import run;"
        "code = run(sys.argv[1:]); print(file=sys.stderr); print(code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=False
    )
    code, *loaded = done.stderr.splitlines()[-1].split()
    assert code == "0", done.stderr
    assert not {"rich", "wherry.cli.doctor", "wherry.artifact"} & set(loaded)


def test_door_needs_the_packages() -> None:
    """The door of the command is open without rich; behind it it is needed."""
    program = (
        "import sys; sys.modules['rich'] = None;import wherry.cli; sys.exit(wherry.cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'wherry[daemon]'" in done.stderr
    assert "uv tool install 'wherry[daemon]'" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--name", "a/b/c"),
        ("--name", "model:v3"),
        ("--type", "a/b"),
        ("--alias", "v3"),
        ("--alias", "a:b"),
        ("--metadata", "{"),
        ("--metadata", "[1]"),
        ("--project", "a/b"),
        ("--name", "cats/model", "--project", "dogs"),
        ("--timeout", "soon"),
        ("--policy", "perhaps"),
        ("--store", "ftp://x"),
        ("--store", "s3://"),
    ],
)
def test_wrong_argument_logs_something(
    daemon: FakeDaemon, wherry: Wherry, tmp_path: Path, args: tuple[str, ...]
) -> None:
    """What put can't use is wrong usage, found before anything is captured."""
    file = tmp_path / "model.pt"
    file.write_bytes(b"weights")
    wherry("put", str(file), *args, exit_code=2)
    assert daemon.calls == []
    assert not (daemon.home / "spool").exists()


@pytest.mark.parametrize(
    ("path", "name", "project", "meant"),
    [
        ("model.pt", None, None, (None, "model.pt")),
        ("runs/data/", None, "cats", ("cats", "data")),
        ("x", "model", None, (None, "model")),
        ("x", "cats/model", None, ("cats", "model")),
        ("x", "cats/model", "cats", ("cats", "model")),
    ],
)
def test_other_name_is_meant(
    path: str, name: str | None, project: str | None, meant: tuple[str | None, str]
) -> None:
    """The name is that of the file unless one is given; its project wins over the settings'."""
    assert files._meant(path, name, project) == meant


def _commands(group: Group, before: str = "") -> Iterator[tuple[str, Command]]:
    for name in group.commands:
        found = group.find(name)
        if isinstance(found, Group):
            yield from _commands(found, f"{before}{name} ")
        else:
            yield f"{before}{name}", found


def test_command_goes_untested() -> None:
    """The command's own list of commands is what the tests above know."""
    assert [name for name, _ in _commands(WHERRY)] == _COMMANDS


@pytest.mark.parametrize("name", _COMMANDS)
def test_option_is_handed_to_nobody(name: str) -> None:
    """Each command's function takes what its options are read into, and nothing else."""
    found = dict(_commands(WHERRY))[name]
    read = {action.dest for action in _Parser("", "", "", found._options)._actions} - {"help"}
    assert set(inspect.signature(found._run).parameters) == read


@pytest.mark.parametrize(
    "args",
    [
        ("put", ""),
        ("ls", "--store", "ftp://x"),
        ("retry", "--store", "s3://"),
        ("queue", "--project", "a/b"),
        ("queue", "--name", "a/b"),
        ("sync", "--name", "a:b"),
        ("retry", ""),
        ("cancel", "model:v3"),
    ],
)
def test_wrong_argument_is_taken(daemon: FakeDaemon, wherry: Wherry, args: tuple[str, ...]) -> None:
    """What no command can use is wrong usage, and the daemon is not asked."""
    wherry(*args, exit_code=2)
    assert daemon.calls == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("args", ["status", "queue --json", "status --json", "drain", "wait --all"])
def test_closed_stream_is_a_traceback(daemon: FakeDaemon, args: str, closed: str) -> None:
    """Where standard output or standard error is closed, as in cron, a command does its work all the same,
    and nothing of the one gets into the other.
    """
    daemon.requests = [request(1, state="done", version=0), request(2, state="held", place=0)]
    done = subprocess.run(
        f"{sys.executable} -m wherry.cli {args} {closed}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in args and done.stdout:
        json.loads(done.stdout)
    if closed == "2>&-":
        assert "held by offline mode;" not in done.stdout


@pytest.mark.parametrize(
    "args", ["show cats/nosuch", "ls nosuch", "cancel 9f3c21aa", "retry 9f3c21aa", "wait 9f3c21aa"]
)
def test_failure_spoils_the_json(daemon: FakeDaemon, wherry: Wherry, args: str) -> None:
    """Where a command fails, standard output is JSON or empty: what happened is told beside it."""
    daemon.refusals = {
        name: Refusal("NotFoundError", "there is none") for name in ("GetVersion", "ListVersions")
    }
    shown = wherry(*args.split(), "--json", exit_code=1)
    assert shown.stderr
    assert not shown.stdout or json.loads(shown.stdout)
