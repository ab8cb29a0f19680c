"""Files that can't be added, or don't stand still: refused by name at the call, and the rest arrives."""

from __future__ import annotations

import json

from tests.support.machine import Machine
from tests.support.reading import FolderObjects, content, records
from tests.support.troubles import CASES, NO_POWERS, check, outcomes

FILES = """
import socket, threading

os.makedirs("good/deep"); os.makedirs("fifo"); os.makedirs("socket"); os.makedirs("locked")
os.makedirs("dangling"); os.makedirs("loop/deep"); os.makedirs("linked"); os.makedirs("self")
for path in ("model.pt", "good/a", "good/deep/b", "fifo/a", "socket/a", "locked/secret",
             "dangling/a", "loop/a", "linked/a", "self/a"):
    with open(path, "w") as f: f.write(path)
os.mkfifo("fifo/pipe"); os.mkfifo("pipe")
listening = socket.socket(socket.AF_UNIX); listening.bind("socket/sock")
os.chmod("locked/secret", 0)
os.makedirs("closed"); os.chmod("closed", 0)
os.symlink("nowhere", "dangling/lost"); os.symlink("nowhere", "lost")
os.symlink("..", "loop/deep/up")
os.symlink("self", "self-link"); os.symlink("ring-2", "ring-1"); os.symlink("ring-1", "ring-2")
os.symlink("../model.pt", "linked/model.pt"); os.symlink("../good", "linked/folder")
os.symlink("model.pt", "link.pt")

run = wherry.init(project="p")
a = wherry.Artifact("files", type="model")

@case
def missing_file(): a.add_file("nowhere.pt")
@case
def missing_folder(): a.add_dir("nowhere")
@case
def below_a_file(): a.add_file("model.pt/x")
@case
def folder_as_file(): a.add_file("good")
@case
def file_as_folder(): a.add_dir("model.pt")
@case
def pipe(): a.add_file("pipe")
@case
def device(): a.add_file("/dev/null")
@case
def pipe_in_folder(): a.add_dir("fifo")
@case
def socket_in_folder(): a.add_dir("socket")
@case
def unreadable(): a.add_file("locked/secret")
@case
def unreadable_immutable(): a.add_file("locked/secret", policy="immutable")
@case
def unreadable_in_folder(): a.add_dir("locked")
@case
def closed_folder(): a.add_dir("closed")
@case
def dangling(): a.add_file("lost")
@case
def dangling_in_folder(): a.add_dir("dangling")
@case
def loop_of_folders(): a.add_dir("loop")
@case
def loop_of_links(): a.add_file("ring-1")
@case
def nul_in_local_path(): a.add_file("mod\\0el.pt")
@case
def nul_in_local_folder(): a.add_dir("go\\0od")
@case
def empty_local_path(): a.add_file("")
@case
def wrong_policy(): a.add_file("model.pt", policy="sometimes")
@case
def missing_path_logged(): run.log_artifact("nowhere.pt", name="never", type="model")

@case
def linked_file(): return a.add_file("link.pt")
@case
def links_in_folder(): return a.add_dir("linked", name="linked")
@case
def good_folder(): return a.add_dir("good", name="good")

run.log_artifact(a)
run.finish()
tell()
"""

FILES_WANTED = {
    "missing_file": ("FileNotFoundError", "nowhere.pt"),
    "missing_folder": ("FileNotFoundError", "nowhere"),
    "below_a_file": ("CaptureError", "model.pt/x"),
    "folder_as_file": ("NotAFile", "good"),
    "file_as_folder": ("NotAFile", "model.pt"),
    "pipe": ("NotAFile", "pipe"),
    "device": ("NotAFile", "/dev/null"),
    "pipe_in_folder": ("NotAFile", "fifo/pipe"),
    "socket_in_folder": ("NotAFile", "socket/sock"),
    "unreadable": ("FileUnreadable", "locked/secret"),
    "unreadable_immutable": ("FileUnreadable", "locked/secret"),
    "unreadable_in_folder": ("FileUnreadable", "locked/secret"),
    "closed_folder": ("FileUnreadable", "closed"),
    "dangling": ("FileMissing", "lost"),
    "dangling_in_folder": ("FileMissing", "dangling/lost"),
    "loop_of_folders": ("CaptureError", "loop/deep/up"),
    "loop_of_links": ("CaptureError", "ring-1"),
    "nul_in_local_path": ("WherryError", "el.pt"),
    "nul_in_local_folder": ("CaptureError", "od"),
    "empty_local_path": ("WherryError", ""),
    "wrong_policy": ("ValueError", "sometimes"),
    "missing_path_logged": ("FileMissing", "nowhere.pt"),
    "linked_file": ("", "link.pt"),
    "links_in_folder": ("", ""),
    "good_folder": ("", ""),
}


def test_bad_file_spoils_the_artifact(machine: Machine) -> None:
    """Each file that can't be added is refused by name at the call; the rest of the artifact arrives."""
    found = outcomes(machine.run(NO_POWERS + CASES + FILES))
    check(found, FILES_WANTED)
    (arrived,) = content(machine.home, "files")
    assert arrived == {
        "link.pt": b"model.pt",
        "linked/a": b"linked/a",
        "linked/model.pt": b"model.pt",
        "linked/folder/a": b"good/a",
        "linked/folder/deep/b": b"good/deep/b",
        "good/a": b"good/a",
        "good/deep/b": b"good/deep/b",
    }
    assert not FolderObjects(machine.home / "store").keys("p/artifacts/never/")


RESTLESS = """
import json, os, subprocess, sys, threading, time
import wherry

SIZE, TRIES = 8_000_000, 60
WRITER = '''
import os, sys
size = int(sys.argv[1])
fill = 0
while True:
    fill = (fill + 1) % 256
    with open("big", "r+b" if os.path.exists("big") else "wb", buffering=0) as f:
        for _ in range(0, size, 500_000):
            f.write(bytes([fill]) * 500_000)
    with open("log", "ab") as f:
        f.write(b"line" * 1000)
    if os.path.getsize("log") > size: os.truncate("log", 0)
'''

def captured():
    return sum(len(names) for _, _, names in os.walk(os.environ["WHERRY_HOME"] + "/spool"))

def unlink_soon(path, before, ended):
    while captured() == before and not ended.is_set(): pass
    os.unlink(path)

writer = subprocess.Popen([sys.executable, "-c", WRITER, str(SIZE)])
while not os.path.exists("log"): time.sleep(0.01)
os.makedirs("d")
with open("d/0-long", "wb") as f: f.write(bytes(60_000_000))
run = wherry.init(project="p")
raised = {}
try:
    a = wherry.Artifact("restless", type="model")
    with a.new_file("last") as f: f.write("last")
    for what in ("big", "log"):
        for i in range(TRIES):
            try:
                a.add_file(what, name=f"{what}-{i}")
            except wherry.errors.CaptureError as error:
                raised.setdefault(what, [type(error).__name__, str(error)])
finally:
    writer.kill()
    writer.wait()
for i in range(TRIES):
    open("d/9-short-lived", "w").close()
    ended = threading.Event()
    thread = threading.Thread(target=unlink_soon, args=("d/9-short-lived", captured(), ended))
    thread.start()
    try:
        a.add_dir("d", name=f"d-{i}")
    except wherry.errors.CaptureError as error:
        raised["d"] = [type(error).__name__, str(error)]
    finally:
        ended.set()
        thread.join()
    if "d" in raised: break
    a.remove(f"d-{i}")
run.log_artifact(a)
a.wait(60)
run.finish()
print(json.dumps(raised))
"""


def is_of_a_moment(body: bytes) -> bool:
    """Whether the writer's file looked so at any moment: one fill from the start, the one before after it."""
    fill = body[0]
    new = len(body) - len(body.lstrip(bytes([fill])))
    before = bytes([(fill - 1) % 256])
    return len(body) == 8_000_000 and body[new:] == before * (len(body) - new)


def test_torn_file_is_taken(machine: Machine) -> None:
    """A file that changes or vanishes while it is captured is refused by name; nothing torn arrives."""
    raised = json.loads(machine.run(RESTLESS))
    (arrived,) = content(machine.home, "restless")
    assert arrived.pop("last") == b"last"
    for path, body in arrived.items():
        if path.startswith("big"):
            assert is_of_a_moment(body), path
        else:
            assert path.startswith("log-")
            assert body == (b"line" * (len(body) // 4 + 1))[: len(body)]
    assert raised["big"][0] == "FileChanged" and "big" in raised["big"][1]
    assert raised["d"][0] in ("FileChanged", "FileMissing") and "9-short-lived" in raised["d"][1]


def test_changed_immutable_file_takes_a_number(machine: Machine) -> None:
    """What changes after an ``immutable`` capture fails alone, without a number; a deleted file is fine."""
    machine.run(
        """
        import os, wherry
        for name in ("mutable", "changed", "deleted"):
            with open(name, "w") as f: f.write("one")
        with wherry.init(project="p", mode="offline") as run:
            for name in ("mutable", "changed", "deleted"):
                a = wherry.Artifact(name, type="model")
                a.add_file(name, policy="mutable" if name == "mutable" else "immutable")
                run.log_artifact(a)
            b = wherry.Artifact("changed", type="model", metadata={"second": True})
            run.log_artifact(b)
        for name in ("mutable", "changed"):
            with open(name, "r+") as f: f.write("two")
        os.unlink("deleted")
        """
    )
    machine.wherry("sync", check=False)
    assert content(machine.home, "mutable") == [{"mutable": b"one"}]
    assert content(machine.home, "deleted") == [{"deleted": b"one"}]
    kept = records(FolderObjects(machine.home / "store"), "p", "changed")
    assert [record["metadata"] for record in kept] == [{"second": True}]
    (failed,) = json.loads(machine.wherry("status", "--json"))["requests"]
    assert (failed["name"], failed["error"]) == ("changed", "FileChanged")
