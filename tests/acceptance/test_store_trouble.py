"""What concerns the store waits, says why, and goes on by itself; what is no store any more stands still."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import bucket
from tests.support.ingress import Ingress
from tests.support.machine import Machine, machine, wait_until
from tests.support.reading import FolderObjects, Objects, S3Objects, files, records
from tests.support.servers import HOST, Seaweed, free_ports
from tests.support.troubles import CASES, CLOCK, NO_POWERS, outcomes

LOG = """
import os, sys
import wherry

def log(run, name="model", **metadata):
    artifact = wherry.Artifact(name, type="model", metadata=metadata)
    with artifact.new_file("weights") as f:
        f.write(f"weights {metadata}")
    with artifact.new_file("same") as f:
        f.write("same in each version")
    return run.log_artifact(artifact)
"""


def shown(on: Machine) -> list[dict[str, Any]]:
    """What is not done, as ``wherry status`` has it."""
    found = json.loads(on.wherry("status", "--json"))["requests"]
    assert isinstance(found, list)
    return found


def reasons(on: Machine, store: str) -> set[str]:
    """Why the requests of a store wait."""
    return {each["error"] for each in shown(on) if each["store"] == store and each["error"]}


def steps(objects: Objects, name: str = "model") -> list[int]:
    """What arrived, in order."""
    return [record["metadata"]["step"] for record in records(objects, "p", name)]


# ── stores that may be well again ──────────────────────────────────────────────────────────────
INTO_EACH = """
for store in sys.argv[1:]:
    with wherry.init(project="p", store=store) as run:
        for step in range(3): log(run, step=step)
print("logged")
"""

WAITS = """
import time
run = wherry.init(project="p")
a = log(run, step=0)
said = ""
while sys.argv[1] not in said:
    time.sleep(0.05)  # the daemon has to meet the trouble first
    try: a.wait(0.2)
    except TimeoutError as error: said = str(error)
print(said.splitlines()[0], flush=True)
hurry(7)
run.finish()
try: a.wait()
except wherry.errors.Cancelled as error: print(type(error).__name__)
"""


def test_trouble_is_raised_or_spreads(tmp_path: Path, seaweed: Seaweed) -> None:
    """Each trouble of a store waits under its class, stops no other store, and ends when it is mended."""
    locked, missing, good = (tmp_path / name for name in ("locked", "missing", "good"))
    locked.mkdir()
    locked.chmod(0o500)
    good.mkdir()
    no_bucket = f"not-made-{os.getpid()}"
    addresses = {
        "locked": f"file://{locked}",
        "missing": f"file://{missing}",
        "bucket": seaweed.address(no_bucket),
    }
    place = bucket(seaweed)
    secret = "this-one-is-wrong"
    detach = {"WHERRY_FINISH": "detach"}
    with machine(tmp_path / "m", f"file://{good}") as on:
        # what starts the daemon gives it no credentials, and no power over files
        on.run(NO_POWERS + LOG + INTO_EACH, addresses["locked"], addresses["missing"], env=detach)
        on.run(LOG + INTO_EACH, addresses["bucket"], env={**detach, **seaweed.credentials})
        wrong = {**seaweed.credentials, "AWS_SECRET_ACCESS_KEY": secret}
        on.run(LOG + INTO_EACH, place.address, env={**detach, **wrong})

        middle = None
        wanted = {"locked": "AccessRefused", "missing": "StoreMissing", "bucket": "StoreMissing"}
        mend = {
            "locked": lambda: locked.chmod(0o700),
            "missing": missing.mkdir,
            "bucket": lambda: seaweed.make_bucket(no_bucket),
        }
        for trouble, kind in wanted.items():
            address = addresses[trouble]
            wait_until(lambda address=address, kind=kind: kind in reasons(on, address))
            if trouble == "missing":
                of_store = [each for each in shown(on) if each["store"] == address]
                middle = sorted(of_store, key=lambda each: int(each["place"]))[1]["request"]
                assert json.loads(on.wherry("cancel", middle, "--json"))["count"] == 1
            mend[trouble]()
        wait_until(lambda: "AccessRefused" in reasons(on, place.address))

        # another store, meanwhile
        on.run(LOG + INTO_EACH, on.store)
        assert steps(FolderObjects(good)) == [0, 1, 2]

        # a client with good credentials
        on.run(
            LOG + 'log(wherry.init(project="p", store=sys.argv[1]), step=3)',
            place.address,
            env={**detach, **seaweed.credentials},
        )
        on.wherry("wait", "--all", "--timeout", "100s", timeout_s=110)
        assert steps(FolderObjects(locked)) == [0, 1, 2]
        assert steps(FolderObjects(missing)) == [0, 2]
        made = S3Objects(addresses["bucket"], seaweed.access_key, seaweed.secret_key)
        assert steps(made) == [0, 1, 2]
        assert steps(place.objects) == [0, 1, 2, 3]
        assert shown(on) == []
        check_private(on, [secret, seaweed.secret_key])


def check_private(on: Machine, secrets: list[str]) -> None:
    """The home is the user's alone, and no secret lies in it."""
    assert stat.S_IMODE(on.home.stat().st_mode) == 0o700
    for folder, folders, names in os.walk(on.home):
        for name in [*folders, *names]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not stat.S_ISSOCK(mode) and "store" not in path.parts:
                assert not stat.S_IMODE(mode) & 0o077, f"{path} is {stat.S_IMODE(mode):o}"
            if stat.S_ISREG(mode):
                held = path.read_bytes()
                assert not [each for each in secrets if each.encode() in held], path


def _absent_server(_: Path, __: Seaweed) -> tuple[str, dict[str, str]]:
    (port,) = free_ports(1)
    address = f"s3://bucket?endpoint_url=http://{HOST}:{port}&region=us-east-1"
    return address, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def _locked_folder(root: Path, _: Seaweed) -> tuple[str, dict[str, str]]:
    (root / "locked").mkdir(mode=0o500)
    return f"file://{root}/locked", {}


def _missing_folder(root: Path, _: Seaweed) -> tuple[str, dict[str, str]]:
    return f"file://{root}/missing", {}


def _missing_bucket(_: Path, seaweed: Seaweed) -> tuple[str, dict[str, str]]:
    return seaweed.address(f"never-made-{os.getpid()}"), seaweed.credentials


def _wrong_secret(_: Path, seaweed: Seaweed) -> tuple[str, dict[str, str]]:
    return bucket(seaweed).address, {
        **seaweed.credentials,
        "AWS_SECRET_ACCESS_KEY": "this-one-is-wrong",
    }


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (_absent_server, "StoreUnavailable"),
        (_locked_folder, "AccessRefused"),
        (_missing_folder, "StoreMissing"),
        (_missing_bucket, "StoreMissing"),
        (_wrong_secret, "AccessRefused"),
    ],
)
def test_trouble_is_not_named_to_who_waits(
    tmp_path: Path, seaweed: Seaweed, trouble: Any, kind: str
) -> None:
    """What a store's trouble is shows in ``wait()`` and ``finish()``; what waits can be taken back."""
    address, keys = trouble(tmp_path, seaweed)
    with machine(tmp_path / "m", address, keys) as on:
        program = on.start(NO_POWERS + LOG + CLOCK + WAITS, kind)
        assert kind in program.wait_line()
        (request,) = shown(on)
        assert request["error"] == kind and request["reason"]
        if trouble is _absent_server:
            assert address.partition("endpoint_url=")[2].partition("&")[0] in request["reason"]
        assert request["next_try"]
        left = program.process.stderr
        assert left
        seen = ""
        while "left to the daemon" not in seen:
            line = left.readline()
            assert line, seen
            seen += line
        assert kind in seen and "p/model" in seen
        assert json.loads(on.wherry("cancel", "--all", "--json"))["count"] == 1
        out, _ = program.process.communicate(timeout=60)
        assert out == "Cancelled\n"
        assert shown(on) == []


def test_ingress_speaks_for_the_store(tmp_path: Path, seaweed: Seaweed) -> None:
    """What an ingress answers while its backend restarts empties no store and stops no lane."""
    place = bucket(seaweed)
    log = LOG + "run = wherry.init(project='p'); log(run, step=int(sys.argv[1])); run.finish()\n"
    with Ingress(seaweed.port) as ingress:
        address = place.address.replace(f":{seaweed.port}", f":{ingress.port}")
        with machine(tmp_path / "m", address, seaweed.credentials) as on:
            on.run(log, "0")
            ingress.lose_backend()
            on.run(log, "1", env={"WHERRY_FINISH": "detach"})
            wait_until(lambda: reasons(on, address) == {"StoreUnavailable"})
            (waiting,) = shown(on)
            assert "no store" in waiting["reason"]
            # a new daemon looks first what the store is
            on.kill_daemon()
            wait_until(lambda: reasons(on, address) == {"StoreUnavailable"})
            assert json.loads(on.wherry("status", "--json"))["stopped"] == []
            out = on.run(LOG + CASES + ASKS)
            assert outcomes(out)["find"]["raised"] == "StoreUnavailable"
            ingress.find_backend()
            on.wherry("wait", "--all", "--timeout", "100s", timeout_s=110)
            assert json.loads(on.wherry("status", "--json"))["stopped"] == []
    assert steps(place.objects) == [0, 1]


ASKS = """
@case
def find(): wherry.Api().artifact("p/model:v0")
tell()
"""


# ── a store that is not what it was ────────────────────────────────────────────────────────────
def _empty(store: Path, _: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


def _put_backup_back(store: Path, backup: Path) -> None:
    shutil.rmtree(store)
    shutil.copytree(backup, store)


def _exchange(store: Path, backup: Path) -> None:
    _put_backup_back(store, backup)
    there = json.loads((store / "wherry.json").read_text())
    fresh = {key: _other_id(value) for key, value in there.items()}
    (store / "wherry.json").chmod(0o600)
    (store / "wherry.json").write_text(json.dumps(fresh) + "\n")


def _other_id(value: object) -> object:
    return value[:-1] + ("0" if value[-1] != "0" else "1") if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("change", "after"),
    [(_empty, [2, 3]), (_put_backup_back, [0, 2, 3]), (_exchange, [0, 2, 3])],
    ids=["emptied", "from a backup", "another"],
)
def test_changed_store_is_written_on(tmp_path: Path, change: Any, after: list[int]) -> None:
    """A store that is not what it was stops its lane, gets no version, nor any byte where it bears another id
    or none, and goes on after ``wherry retry``.
    """
    store, backup = tmp_path / "store", tmp_path / "backup"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        log = LOG + "with wherry.init(project='p') as run: log(run, step=int(sys.argv[1]))\n"
        on.run(log, "0")
        shutil.copytree(store, backup)
        on.run(log, "1")
        on.kill_daemon()
        change(store, backup)
        before = content_of(store)
        for step in ("2", "3"):
            on.run(log, step, env={"WHERRY_FINISH": "detach"})
        wait_until(lambda: json.loads(on.wherry("status", "--json"))["stopped"])
        (lane,) = json.loads(on.wherry("status", "--json"))["stopped"]
        assert (lane["project"], lane["name"], lane["store"]) == ("p", "model", on.store)
        assert "StoreChanged" in {each["error"] for each in shown(on)}
        said = on.wherry("status")
        assert "wherry retry" in said and str(store) in said
        # neither a new daemon nor time makes it go on
        on.kill_daemon()
        wait_until(lambda: json.loads(on.wherry("status", "--json"))["stopped"])
        out = on.run(
            LOG
            + """
run = wherry.init(project="p")
other = wherry.Artifact("model", type="model", metadata={"step": 4})
run.log_artifact(other)
try: other.wait(0.5)
except wherry.errors.WaitTimeoutError as error: print(error)
""",
            env={"WHERRY_FINISH": "detach"},
        )
        assert "not committed" in out and "stands still" in out
        assert records_of(store) == records_of_before(before)
        if change is not _put_backup_back:  # that one bears the id which is known
            assert content_of(store) == before
        on.wherry("retry", "--all")
        on.wherry("wait", "--all", "--timeout", "60s")
        objects = FolderObjects(store)
        assert steps(objects) == [*after, 4]
        for record in records(objects, "p", "model")[:-1]:
            assert dict(files(objects, "p", record))["same"] == b"same in each version"
        assert json.loads(on.wherry("status", "--json"))["stopped"] == []


# A request that takes longer to hash than the test lasts keeps its lane's worker, with all that it has seen.
HOLDS_A = """
run = wherry.init(project="p")
logged = [log(run, "a", step=step) for step in range(3)]
big = wherry.Artifact("a", type="model", metadata={"step": "big"})
big.add_reference("file://" + sys.argv[1])
run.log_artifact(big)
logged[-1].wait()
"""


def _hold_lane(on: Machine, root: Path) -> str:
    """Commit v0 to v2 of ``a``, and let a fourth request stand in its lane; return its id."""
    endless = root / "endless"
    with endless.open("wb") as file:
        file.truncate(1 << 42)
    on.run(LOG + HOLDS_A, str(endless), env={"WHERRY_FINISH": "detach"})
    (held,) = shown(on)
    return str(held["request"])


def _log(on: Machine, name: str, step: int) -> None:
    program = LOG + "log(wherry.init(project='p'), sys.argv[1], step=int(sys.argv[2]))"
    on.run(program, name, str(step), env={"WHERRY_FINISH": "detach"})


def stopped(on: Machine) -> set[str]:
    """Names of the lanes that wait for the user."""
    return {lane["name"] for lane in json.loads(on.wherry("status", "--json"))["stopped"]}


def test_another_lane_goes_on_with_the_old_store(tmp_path: Path) -> None:
    """After ``wherry retry`` of one lane nothing is taken over from the store that was there before."""
    store = tmp_path / "store"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        held = _hold_lane(on, tmp_path)
        _empty(store, store)
        _log(on, "a", 3)
        _log(on, "b", 0)
        wait_until(lambda: "b" in stopped(on))
        on.wherry("retry", "--all")
        wait_until(lambda: "b" not in {each["name"] for each in shown(on)})
        on.wherry("cancel", held)
        on.wherry("wait", "--all", "--timeout", "60s")
        assert steps(FolderObjects(store), "a") == [3]
        on.wherry("show", "p/a:v0")


def test_trouble_while_sending_is_not_told_to_the_commit(tmp_path: Path) -> None:
    """A store that was away for the sending is asked whether it is the same before a record goes there."""
    store = tmp_path / "store"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        held = _hold_lane(on, tmp_path)
        store.rename(tmp_path / "gone")
        _log(on, "a", 3)
        wait_until(lambda: reasons(on, on.store))
        store.mkdir()
        on.wherry("cancel", held)
        wait_until(lambda: stopped(on) or not shown(on))
        assert stopped(on) == {"a"}
        assert records_of(store) == {}
        shutil.rmtree(store)
        (tmp_path / "gone").rename(store)
        on.wherry("retry", "--all")
        on.wherry("wait", "--all", "--timeout", "60s")
        assert steps(FolderObjects(store), "a") == [0, 1, 2, 3]


def test_store_swallows_bytes_that_is_there_for_a_moment(tmp_path: Path) -> None:
    """While the daemon runs, another folder takes the store's place, as the mount point of an unmounted disk
    does, and is gone before a commit has looked: the lane stops, and all arrives after ``wherry retry``.
    """
    store, disk = tmp_path / "store", tmp_path / "disk"
    store.mkdir()
    with machine(tmp_path / "m", f"file://{store}") as on:
        held = _hold_lane(on, tmp_path)
        store.rename(disk)
        store.mkdir()
        _log(on, "a", 3)
        wait_until(lambda: stopped(on) or "uploaded" in {each["state"] for each in shown(on)})
        store.rename(tmp_path / "mount point")
        disk.rename(store)
        assert stopped(on) == {"a"}
        assert reasons(on, on.store) == {"StoreChanged"}
        on.wherry("cancel", held)
        on.wherry("retry", "--all")
        on.wherry("wait", "--all", "--timeout", "60s")
        on.kill_daemon()
        _log(on, "b", 3)  # has the same bytes as a's
        on.wherry("wait", "--all", "--timeout", "60s")
        objects = FolderObjects(store)
        assert (steps(objects, "a"), steps(objects, "b")) == ([0, 1, 2, 3], [3])
        for name in ("a", "b"):
            for record in records(objects, "p", name):
                assert dict(files(objects, "p", record)).keys() == {"weights", "same"}


def content_of(store: Path) -> dict[str, bytes]:
    """All that lies in a folder."""
    objects = FolderObjects(store)
    return {key: objects.get(key) for key in objects.keys("")}


def records_of(store: Path) -> dict[str, bytes]:
    """What makes versions exist in a folder, and says whose it is."""
    return records_of_before(content_of(store))


def records_of_before(content: dict[str, bytes]) -> dict[str, bytes]:
    """The same of what was read before."""
    return {
        key: body
        for key, body in content.items()
        if key == "wherry.json" or "/artifacts/" in f"/{key}"
    }


# ── failures ───────────────────────────────────────────────────────────────────────────────────
FAILS = """
import time
with open("data", "w") as f: f.write("one")
os.utime("data", ns=(10**18, 10**18))
run = wherry.init(project="p")
a = wherry.Artifact("model", type="model", metadata={"step": 0})
a.add_file("data", policy="immutable")
with open("data", "w") as f: f.write("two")
run.log_artifact(a)
@case
def wait(): a.wait(60)
@case
def version(): a.version
tell()
sys.stdout.flush()
while not os.path.exists("retried"): time.sleep(0.02)
print(a.wait(60).version)
"""


def test_failure_is_forgotten_or_keeps_its_place(machine: Machine) -> None:
    """A failure stays in status over restarts; retried, it takes a new place at the end of the line."""
    program = machine.start(LOG + CASES + FAILS)
    found = outcomes(program.wait_line())
    for case in ("wait", "version"):
        assert found[case]["raised"] == "FileChanged" and "data" in found[case]["text"]
    machine.run(
        LOG + "with wherry.init(project='p') as run:\n  for i in (1, 2): log(run, step=i)\n"
    )
    machine.kill_daemon()
    (failed,) = shown(machine)
    assert (failed["state"], failed["error"]) == ("failed", "FileChanged")
    (machine.work / "data").write_text("one")
    os.utime(machine.work / "data", ns=(10**18, 10**18))
    assert json.loads(machine.wherry("retry", failed["request"], "--json"))["count"] == 1
    (machine.work / "retried").touch()
    assert program.wait_done() == "v2\n"
    assert shown(machine) == []
    objects = FolderObjects(machine.home / "store")
    assert steps(objects) == [1, 2, 0]
    last = records(objects, "p", "model")[-1]
    assert list(files(objects, "p", last)) == [("data", b"one")]


def test_acknowledged_failure_comes_back(machine: Machine) -> None:
    """An acknowledged failure is gone from status, also after a restart, and its bytes are freed."""
    machine.run(
        """
        import os, wherry
        with open("data", "wb") as f: f.write(os.urandom(3_000_000))
        with wherry.init(project="p", mode="offline") as run:
            a = wherry.Artifact("model", type="model")
            a.add_file("data", policy="immutable")
            with a.new_file("more", mode="wb") as f: f.write(os.urandom(3_000_000))
            run.log_artifact(a)
        with open("data", "ab") as f: f.write(b"more")
        """
    )
    machine.wherry("sync", check=False)
    (failed,) = shown(machine)
    assert failed["error"] == "FileChanged"
    assert json.loads(machine.wherry("acknowledge", "--all", "--json"))["count"] == 1
    assert shown(machine) == []
    machine.kill_daemon()
    machine.wherry("daemon", "start")
    assert shown(machine) == []
    wait_until(lambda: spooled(machine) < 3_000_000)


def spooled(on: Machine) -> int:
    """Bytes in the spool."""
    spool = on.home / "spool"
    return sum(file.stat().st_size for file in spool.rglob("*") if file.is_file())


def test_spool_fills_up(machine: Machine) -> None:
    """When all is committed the spool holds nothing any more."""
    machine.run(
        """
        import os, wherry
        os.makedirs("d")
        for i in range(20):
            with open(f"d/{i}", "wb") as f: f.write(os.urandom(10_000))
        with wherry.init(project="p") as run:
            for step in range(3):
                a = wherry.Artifact("model", type="model", metadata={"step": step})
                a.add_dir("d")
                with a.new_file("big", mode="wb") as f: f.write(os.urandom(2_000_000))
                run.log_artifact(a)
        """
    )
    wait_until(lambda: spooled(machine) == 0)


def test_damaged_queue_is_thrown_away(machine: Machine) -> None:
    """A damaged queue is set aside, with a message; the daemon goes on with a new one."""
    machine.run(LOG + "with wherry.init(project='p') as run: log(run, step=0)")
    machine.kill_daemon()
    wait_until(lambda: machine.daemon_pid() is None)
    for extra in ("queue.db-wal", "queue.db-shm"):
        (machine.home / extra).unlink(missing_ok=True)
    (machine.home / "queue.db").write_bytes(b"no database at all, but somebody's data" * 1000)
    machine.run(LOG + "with wherry.init(project='p') as run: log(run, step=1)")
    aside = [path for path in machine.home.iterdir() if "queue.db" in path.name]
    kept = [path for path in aside if path.read_bytes().startswith(b"no database at all")]
    assert len(kept) == 1
    assert kept[0].name in (machine.home / "daemon.log").read_text()
    assert steps(FolderObjects(machine.home / "store")) == [0, 1]


def test_light_client_fails_without_help(tmp_path: Path) -> None:
    """Where no daemon can be started the error says so, with the log's last lines or what to install."""
    with machine(tmp_path / "m") as on:
        on.env["WHERRY_DAEMON"] = f"{sys.executable} -c 'raise SystemExit(\"no such luck\")'"
        out = on.run(
            CASES
            + """
@case
def log():
    with wherry.init(project="p") as run: run.log_artifact(wherry.Artifact("a", type="model"))
tell()
"""
        )
        found = outcomes(out)["log"]
        assert found["raised"] == "DaemonNotStarted" and "no such luck" in found["text"]
        assert "CommError" in found["kinds"]
