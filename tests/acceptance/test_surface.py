"""The surface that ported programs use: each essential row of W&B's, called as they call it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.machine import Machine
from tests.support.reading import FolderObjects, files, records
from tests.support.troubles import CASES, check, outcomes

BUILDING = """
import pathlib
import wherry as wandb

os.makedirs("d/deep")
for path in ("x.txt", "d/a.txt", "d/deep/b.txt"):
    with open(path, "w") as f: f.write(path)

run = wandb.init(project="p", job_type="train", config={"lr": 0.1})
a = wandb.Artifact("data", "dataset", "what it is", {"rows": 3}, incremental=False, use_as=None,
                   storage_region=None)
entry = a.add_file("x.txt")
assert (entry.path, entry.size, entry.ref) == ("x.txt", 5, None), entry
assert a.add_file(local_path=pathlib.Path("x.txt"), name="named/x.txt", is_tmp=False,
                  skip_cache=True, policy="immutable", overwrite=False).path == "named/x.txt"
a.add_dir("d", name=None, skip_cache=False, policy="mutable", merge=False)
a.add_dir(local_path="d", name="prefix")
with a.new_file("new.txt", mode="x", encoding="utf-8") as f: f.write("né")
with a.new_file("new.bin", "wb") as f: f.write(b"\\0\\1")
refs = a.add_reference("file://" + os.path.abspath("x.txt"), name="ref.txt", checksum=True, max_objects=5)
assert [each.path for each in refs] == ["ref.txt"] and refs[0].ref == "file://" + os.path.abspath("x.txt")
refs = a.add_reference("file://" + os.path.abspath("d"), name="refs")
assert sorted(each.path for each in refs) == ["refs/a.txt", "refs/deep/b.txt"]
a.add_file("x.txt", name="gone.txt"); a.remove("gone.txt")
gone = a.add_file("x.txt", name="gone.txt"); a.remove(gone)
assert a.is_draft()
assert (a.type, a.description, a.metadata, a.state) == ("dataset", "what it is", {"rows": 3}, "PENDING")
assert a.name == "data"
a.description = "what it is now"; a.metadata["more"] = [1]; a.aliases = ["set"]
assert run.log_artifact(a, aliases=["best"], tags=["t"]) is a
assert a.wait() is a and a.wait(timeout=60) is a
assert not a.is_draft()
assert (a.name, a.version, a.state, a.type) == ("data:v0", "v0", "COMMITTED", "dataset")
assert a.qualified_name.endswith("p/data:v0"), a.qualified_name
assert a.project == "p" and isinstance(a.id, str) and a.id
assert a.digest.startswith("sha256:") and a.size > 0 and a.file_count == 11, (a.digest, a.size, a.file_count)
assert {"best", "latest", "set"} <= set(a.aliases), a.aliases
assert a.tags == ["t"]
entries = a.manifest.entries
assert set(entries) == {
    "x.txt", "named/x.txt", "a.txt", "deep/b.txt", "prefix/a.txt", "prefix/deep/b.txt", "new.txt",
    "new.bin", "ref.txt", "refs/a.txt", "refs/deep/b.txt"}, sorted(entries)
"""

READING = """
used = run.use_artifact("data:latest", type="dataset")
assert used.name == "data:v0" and used.metadata == {"rows": 3, "more": [1]}
assert used.description == "what it is now"
root = used.download(root="out", allow_missing_references=False, skip_cache=True, path_prefix=None)
assert os.path.samefile(root, "out")
assert open("out/new.txt", encoding="utf-8").read() == "né"
assert open("out/prefix/deep/b.txt").read() == "d/deep/b.txt"
assert open("out/ref.txt").read() == "x.txt"
part = used.download("part", path_prefix="prefix")
assert sorted(os.listdir("part")) == ["prefix"]
default = used.download()
assert os.path.isfile(os.path.join(default, "x.txt")) and "data" in default, default
for get in (used.get_entry, used.get_path):
    one = get("new.txt")
    assert (one.path, one.size, one.ref) == ("new.txt", 3, None)
    assert one.digest.startswith("sha256:")
    assert open(one.download(root="one"), "rb").read() == "né".encode()
assert isinstance(one.extra, dict)
mine = a.get_entry("x.txt")
assert mine.local_path is None or open(mine.local_path).read() == "x.txt"
ref = used.get_entry("ref.txt")
assert ref.ref_target().endswith("x.txt") and ref.ref_url()
assert used.get("nothing") is None
assert used.verify("out") is None
assert {each.name for each in used.files(names=["x.txt", "new.txt"], per_page=5)} == {"x.txt", "new.txt"}
assert len(list(used.files())) == 11
single = wandb.Artifact("single", type="model")
single.add_file("x.txt")
run.log_artifact(single).wait()
assert open(run.use_artifact("single:latest").file(root="single")).read() == "x.txt"
assert run.use_artifact("p/single:v0").version == "v0"
assert run.use_artifact("entity/p/single:latest").version == "v0"
assert run.use_artifact("single").version == "v0"
assert run.use_artifact(wandb.Artifact("new", type="model")).version == "v0"

# a path is as good
logged = run.log_artifact("x.txt")
assert logged.wait().name == f"run-{run.id}-x.txt:v0" and logged.type == "unspecified", logged.name
logged = run.log_artifact(pathlib.Path("d"), name="folder", type="dataset", aliases="one").wait()
assert sorted(logged.manifest.entries) == ["a.txt", "deep/b.txt"]
assert run.use_artifact("folder:one").version == "v0"
logged = run.log_artifact("file://" + os.path.abspath("x.txt"), name="uri", type="dataset").wait()
assert logged.get_entry("x.txt").ref
assert sorted(os.listdir(run.use_artifact("folder:v0").checkout("checked"))) == ["a.txt", "deep"]
model = run.log_model("x.txt", name="model")
model.wait()
assert open(run.use_model("model:latest")).read() == "x.txt"

api = wandb.Api()
assert api.artifact("p/data:best").version == "v0"
assert api.artifact(name="p/data:v0", type="dataset").digest == a.digest
wandb.init(project="p").log_artifact(wandb.Artifact("single", type="model", metadata={"n": 2})).wait()
assert [each.version for each in api.artifacts("model", "p/single", per_page=10)] == ["v1", "v0"]
assert [each.version for each in api.artifacts(type_name="model", name="p/single")] == ["v1", "v0"]
assert api.artifact_exists("p/data:best") and not api.artifact_exists("p/data:v9")
assert not api.artifact_exists("p/nothing:latest")
assert api.artifact_collection_exists("single", "model") or api.artifact_collection_exists("p/single", "model")
"""

RUN = """
assert (run.project, run.group, run.job_type) == ("p", None, "train")
assert run.config["lr"] == 0.1 and run.config.lr == 0.1 and dict(run.config) == {"lr": 0.1}
assert isinstance(run.id, str) and run.id and hasattr(run, "name")
other = wandb.init(project="p", entity="e", group="g", name="n", id="run-2", tags=["t"], notes="n", dir=".",
                   config=None, settings=wandb.Settings(silent=True), reinit=True, resume="allow")
assert (other.id, other.name, other.group, other.entity) == ("run-2", "n", "g", "e")
assert wandb.run is other
other.log_artifact(wandb.Artifact("by-e", type="model")).wait()
found = wandb.Api().artifact("p/by-e:latest")
assert (found.entity, found.qualified_name) == ("e", "e/p/by-e:v0")
other.log({"loss": 1.0}); other.log({"loss": 0.5}, step=3); wandb.log({"loss": 0.1})
wandb.config.update({"a": 1})
wandb.login(key="whatever")
other.finish(exit_code=0)
assert wandb.run is not other
wandb.log_artifact(wandb.Artifact("by-module", type="model")).wait()
assert wandb.use_artifact("by-module:latest").version == "v0"
with wandb.init(project="p") as third:
    assert wandb.run is third
run.finish()
wandb.finish()
print("done")
"""


def test_ported_program_stumbles(machine: Machine) -> None:
    """Everything essential of Artifact, Run and Api works with W&B's names, keywords and results."""
    assert machine.run(CASES + BUILDING + READING + RUN) == "done\n"
    objects = FolderObjects(machine.home / "store")
    (record,) = records(objects, "p", "data")
    assert sorted(record["aliases"]) == ["best", "set"]
    assert record["run"]["job_type"] == "train" and "entity" not in record["run"]
    (by_entity,) = records(objects, "p", "by-e")
    assert by_entity["run"]["entity"] == "e"
    held = dict(files(objects, "p", record))
    assert held["named/x.txt"] == b"x.txt" and "ref.txt" not in held


ERRORS = """
import wherry as wandb
with open("x", "w") as f: f.write("x")
run = wandb.init(project="p")
a = wandb.Artifact("a", type="model")
a.add_file("x")

@case
def taken(): wandb.Artifact("b", type="m").add(1, "x")
@case
def bad_name():
    try: wandb.Artifact("a/b", type="model")
    except ValueError as error: raise error
@case
def bad_alias(): run.log_artifact(wandb.Artifact("b", type="m"), aliases=["a/b"])
@case
def path_taken():
    with open("y", "w") as f: f.write("y")
    a.add_file("y", name="x")
@case
def missing(): a.add_file("nowhere")
@case
def not_logged(): a.version
@case
def upsert_without_id(): run.upsert_artifact(a)
@case
def finish_without_id(): run.finish_artifact(a)
@case
def finish_artifact_badly(): run.finish_artifact(a, distributed_id="d", on_conflict="oldest")
@case
def table_of_mixed_values(): wandb.Table(columns=["a"], data=[[1], ["x"]])
@case
def table_of_other_rows(): wandb.Table(columns=["a", "b"], data=[[1]])
@case
def picture(): wandb.data_types.Image("cat.png")
@case
def reference_bad(): a.add_reference("no uri")
@case
def remove_nothing(): a.remove("nothing")
@case
def entry_nothing(): a.get_entry("nothing")
@case
def files_nothing(): list(a.files(names=["nothing"]))
run.log_artifact(a).wait()
@case
def finalized(): a.add_file("x", name="z")
@case
def wrong_type(): run.log_artifact(wandb.Artifact("a", type="dataset"))
@case
def save_badly():
    a.aliases.append("v7")
    a.save()
a.aliases.remove("v7")
a.metadata["x"] = 2
a.aliases.append("prod")
a.save()
assert wandb.Api().artifact("p/a:prod").metadata["x"] == 2
@case
def delete_named(): a.delete()
a.delete(delete_aliases=True)
assert a.state == "DELETED"
@case
def deleted(): wandb.Api().artifact("p/a:v0")
@case
def link(): a.link("somewhere")
@case
def link_artifact(): run.link_artifact(a, "somewhere")
@case
def unknown_mode(): wandb.init(project="p", mode="sometimes")
@case
def unknown_store(): wandb.init(project="p", store="ftp://x/y")
@case
def no_run():
    wandb.finish()
    run.finish()
    wandb.log_artifact(a)
tell()
"""

KINDS = {
    "taken": ("TypeError", "add_file"),
    "bad_name": ("ValueError", "a/b"),
    "bad_alias": ("ValueError", "a/b"),
    "path_taken": ("ValueError", "'x'"),
    "missing": ("FileNotFoundError", "nowhere"),
    "not_logged": ("ArtifactNotLoggedError", "wait()"),
    "upsert_without_id": ("WherryError", ""),
    "finish_without_id": ("WherryError", ""),
    "finish_artifact_badly": ("ValueError", "newest"),
    "table_of_mixed_values": ("TypeError", "Row 1, column 'a'"),
    "table_of_other_rows": ("ValueError", "2 columns"),
    "picture": ("NotYet", "not built yet"),
    "reference_bad": ("ValueError", "no uri"),
    "remove_nothing": ("FileNotFoundError", "nothing"),
    "entry_nothing": ("FileNotFoundError", "nothing"),
    "files_nothing": ("FileNotFoundError", "nothing"),
    "finalized": ("ArtifactFinalizedError", "a"),
    "wrong_type": ("ValueError", "dataset"),
    "save_badly": ("ValueError", "version number"),
    "delete_named": ("WherryError", "prod"),
    "deleted": ("CommError", "v0"),
    "unknown_mode": ("ValueError", "sometimes"),
    "unknown_store": ("ValueError", "ftp"),
    "no_run": ("WherryError", "init"),
}


def test_error_has_another_kind(machine: Machine) -> None:
    """Errors that ports catch keep their kind; what is not built yet says so in a sentence."""
    found = outcomes(machine.run(CASES + ERRORS))
    for ignored in ("link", "link_artifact"):
        assert found.pop(ignored)["raised"] is None
    check(found, KINDS)
    for name in ("upsert_without_id", "finish_without_id"):
        assert {"TypeError", "NotImplementedError"} & set(found[name]["kinds"]), found[name]


def test_name_is_missing_from_the_module(machine: Machine) -> None:
    """What ported programs import is there, under W&B's names."""
    names = (
        "Artifact Api Settings Table data_types init finish login log log_artifact use_artifact run config "
        "errors __version__"
    )
    caught = "CommError WaitTimeoutError ArtifactNotLoggedError ArtifactFinalizedError"
    out = machine.run(
        f"""
        import wherry as wandb
        from wherry import Artifact, Api, Table, data_types
        from wherry.errors import CommError, WaitTimeoutError, ArtifactNotLoggedError
        from wherry.errors import ArtifactFinalizedError, WherryError
        print([name for name in {names.split()!r} if not hasattr(wandb, name)])
        print([n for n in {caught.split()!r} if not issubclass(getattr(wandb.errors, n), Exception)])
        print(wandb.run)
        """
    )
    assert out.splitlines() == ["[]", "[]", "None"]


def test_ported_program_is_warned_of_nothing_or_twice(machine: Machine) -> None:
    """What is accepted without effect is warned of once; what W&B's programs do every day is not."""
    program = machine.start(
        """
        import wherry as wandb
        for _ in range(2):
            with wandb.init(project="p", sync_tensorboard=True) as run:
                run.log({"loss": 1.0}); run.log({"loss": 2.0})
        """
    )
    _, err = program.process.communicate(timeout=60)
    assert program.process.returncode == 0, err
    assert err.count("sync_tensorboard") == 1
    quiet = machine.start(
        """
        import wherry as wandb
        with wandb.init(project="p") as run:
            a = wandb.Artifact("a", type="t")
            run.log_artifact(a)
        """
    )
    _, err = quiet.process.communicate(timeout=60)
    assert "Warning" not in err


def test_command_line_lacks_a_verb(machine: Machine, tmp_path: Path) -> None:
    """W&B's artifact verbs are there at the top level, with their options."""
    (machine.work / "x").write_text("x")
    machine.wherry(
        *("put", "x", "--name", "p/cli", "--description", "d", "--type", "model"),
        *("--alias", "one", "--alias", "two"),
    )
    assert "cli" in machine.wherry("ls", "--project", "p")
    machine.wherry("get", "p/cli:one", "--root", str(tmp_path / "out"), "--type", "model")
    assert (tmp_path / "out" / "x").read_text() == "x"
    shown = json.loads(machine.wherry("show", "p/cli:two", "--json"))
    assert (shown["version"], shown["description"]) == ("v0", "d")
