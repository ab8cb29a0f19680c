"""The names that programs written for W&B artifacts call, as wandb 0.31.0 has them, and a call of each.

Owns: the list, and what shows that a name works. Does not own: what is made of it (``coverage_table``). Left
out is what is no artifact's business, such as sweeps and media.

As a program it makes all calls by a real daemon, and prints what came of each.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import wherry
from wherry import data_types, errors
from wherry.entries import ManifestEntry

ESSENTIAL, USEFUL = "E", "U"
#: To be accepted and ignored, or a clear error; or of no program that we know.
OTHER = "-"

#: What a call gives that was accepted, and of which nothing comes.
WITHOUT_EFFECT = "without effect"


@dataclass
class World:
    """What the calls need: a run, and a version with a file, a table, a reference, aliases and tags."""

    run: wherry.Run
    found: wherry.Artifact
    api: wherry.Api
    made: int = 0

    def new(self, **more: object) -> wherry.Artifact:
        """Make an artifact that was not logged, of a name of its own."""
        self.made += 1
        return wherry.Artifact(f"a{self.made}", "t", **more)  # type: ignore[arg-type]

    def full(self) -> wherry.Artifact:
        """Make one that has a file."""
        artifact = self.new()
        artifact.add_file("x.txt")
        return artifact

    def logged(self) -> wherry.Artifact:
        """Make a version that nobody else uses, and find it."""
        return self.run.use_artifact(self.full())

    def entry(self, path: str = "x.txt") -> ManifestEntry:
        """Find an entry of the version."""
        return self.found.get_entry(path)


Call = Callable[[World], object]


class Item(NamedTuple):
    """A name, how much it is needed, and a call that gives what is true if it works."""

    name: str
    need: str
    call: Call


def new_world() -> World:
    """Make what the calls need, in the working folder."""
    os.makedirs("d/deep")
    for path in ("x.txt", "d/a.txt", "d/deep/b.txt"):
        Path(path).write_text(path)
    run = wherry.init(project="p", group="g", job_type="train", name="n", config={"lr": 0.1})
    artifact = wherry.Artifact("data", "dataset", "what it is", {"rows": 3})
    artifact.add_file("x.txt")
    artifact.add_dir("d", "d")
    artifact.add_reference(f"file://{os.path.abspath('x.txt')}", "far")
    artifact.add(wherry.Table(columns=["a"], data=[[1]]), "t")
    run.log_artifact(artifact, aliases=["best"], tags=["t"]).wait()
    return World(run, run.use_artifact("data:best"), wherry.Api({"project": "p"}))


# ── calls of more than one line ────────────────────────────────────────────────────────────────
def _set_item(it: World) -> bool:
    artifact = it.new()
    artifact["t"] = wherry.Table(columns=["a"], data=[[1]])
    return "t.table.json" in artifact.manifest.entries


def _new_file(it: World) -> bool:
    artifact = it.new()
    with artifact.new_file("n.txt", mode="x", encoding="utf-8") as file:
        file.write("né")
    return artifact.get_entry("n.txt").size == 3


def _remove(it: World) -> bool:
    artifact = it.full()
    artifact.remove(artifact.get_entry("x.txt"))
    return artifact.file_count == 0


def _finalize(it: World) -> bool:
    artifact = it.full()
    artifact.finalize()
    return _raises(errors.ArtifactFinalizedError, lambda: artifact.add_file("x.txt", "y"))


def _raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def _save(it: World) -> bool:
    artifact = it.logged()
    artifact.aliases.append("saved")
    artifact.metadata["n"], artifact.description = 2, "now"
    artifact.save()
    again = it.api.artifact(f"{artifact.base_name}:saved")
    return (again.metadata, again.description) == ({"n": 2}, "now")


def _delete(it: World) -> bool:
    artifact = it.logged()
    artifact.delete(delete_aliases=True)
    return artifact.state == "DELETED" and not it.api.artifact_exists(artifact.qualified_name)


def _checkout(it: World) -> bool:
    os.makedirs("out-checkout/old")
    folder = it.found.checkout("out-checkout")
    it.found.verify(folder)
    return not os.path.exists("out-checkout/old")


def _new_draft(it: World) -> bool:
    draft = it.logged().new_draft()
    draft.add_file("x.txt", "more.txt")
    return sorted(it.run.use_artifact(draft).manifest.entries) == ["more.txt", "x.txt"]


def _incremental(it: World) -> bool:
    artifact = wherry.Artifact(it.logged().base_name, "t", incremental=True)
    artifact.add_file("x.txt", "more.txt")
    return sorted(it.run.use_artifact(artifact).manifest.entries) == ["more.txt", "x.txt"]


def _draft(it: World) -> wherry.Artifact:
    part = it.full()
    it.run.upsert_artifact(part)
    last = wherry.Artifact(part.base_name, "t")
    return it.run.finish_artifact(last).wait()


def _link(it: World) -> object:
    artifact = it.full()
    it.run.link_artifact(artifact, "registry/models")
    artifact.link("registry/models")
    return artifact.wait().version == "v0" and WITHOUT_EFFECT


def _ttl(it: World) -> object:
    it.found.ttl = timedelta(days=1)
    return it.found.ttl is None and WITHOUT_EFFECT


def _log_code(it: World) -> bool:
    Path("train.py").write_text("pass")
    artifact = it.run.log_code(name="source")
    return artifact is not None and [*artifact.wait().manifest.entries] == ["train.py"]


def _finish(it: World) -> bool:
    with wherry.init(project="p") as run:
        artifact = run.log_artifact("x.txt")
    run.finish(exit_code=0)
    return artifact.version == "v0" and it.run is wherry.run


def _find_run(it: World) -> Any:
    return _any(it.api).run(f"p/{it.run.id}")


def _delete_all(it: World) -> bool:
    found = it.logged().collection
    found.delete()
    return not found.artifacts()


def _table() -> wherry.Table:
    table = wherry.Table(columns=["a"], data=[[1]])
    table.add_data(2)
    table.add_column("b", [3, 4])
    return table


def _cli(*words: str) -> str:
    command = [sys.executable, "-m", "wherry.cli", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _in_folder(it: World) -> list[ManifestEntry]:
    return it.found.manifest.get_entries_in_directory("d")


def _any(thing: object) -> Any:
    """Let what is not built yet be called as it will be."""
    return thing


def _is(value: object, wanted: object) -> bool:
    return value == wanted


def _nothing(value: object) -> object:
    return not value and WITHOUT_EFFECT


# ── the list, row by row ───────────────────────────────────────────────────────────────────────
E, U, O = ESSENTIAL, USEFUL, OTHER  # noqa: E741 (as short as the reference's own)

ROWS: dict[str, list[Item]] = {
    "`Artifact`, building": [
        Item("add_file", E, lambda it: it.new().add_file("x.txt", name="y").path == "y"),
        Item("add_dir", E, lambda it: it.new().add_dir("d", "p", merge=True) is None),
        Item("new_file", E, _new_file),
        Item("add_reference", E, lambda it: it.found.get_entry("far").digest == it.entry().digest),
        Item("add_reference(entry)", E, lambda it: it.new().add_reference(it.entry())[0].size == 5),
        Item("add", E, lambda it: it.new().add(_table(), "t", overwrite=True).size),
        Item("artifact[name] = obj", U, _set_item),
        Item("remove", U, _remove),
        Item("finalize", E, _finalize),
        Item("Artifact(incremental=True)", E, _incremental),
    ],
    "`Artifact`, its life": [
        Item("wait", E, lambda it: it.run.log_artifact(it.full()).wait(timeout=60).version == "v0"),
        Item("save", E, _save),
        Item("is_draft", E, lambda it: it.new().is_draft() and not it.found.is_draft()),
        Item("new_draft", U, _new_draft),
        Item("delete", U, _delete),
        Item("link", O, _link),
        Item("unlink", O, lambda it: _nothing(it.found.unlink())),  # type: ignore[func-returns-value]
        Item("pickle.dumps(artifact)", O, lambda it: pickle.loads(pickle.dumps(it.found))),
    ],
    "`Artifact`, reading": [
        Item("download", E, lambda it: Path(it.found.download("out"), "d/a.txt").read_text()),
        Item("file", E, lambda it: Path(it.logged().file("one")).read_text() == "x.txt"),
        Item("get_entry", E, lambda it: it.found.get_entry("x.txt").size == 5),
        Item("get_path", E, lambda it: it.found.get_path("x.txt").size == 5),
        Item("get", E, lambda it: [row for _, row in it.found.get("t").iterrows()] == [[1]]),  # type: ignore[union-attr]
        Item("artifact[name]", E, lambda it: it.found["t"]),
        Item("checkout", U, _checkout),
        Item("verify", U, lambda it: it.found.verify(it.found.download()) is None),
        Item("files", U, lambda it: _is([f.name for f in it.found.files(["x.txt"])], ["x.txt"])),
        Item("logged_by", U, lambda it: _any(it.found).logged_by().id == it.run.id),
        Item("used_by", U, lambda it: it.run.id in [r.id for r in _any(it.found).used_by()]),
    ],
    "`Artifact`, properties": [
        Item("id", E, lambda it: it.found.id),
        Item("name", E, lambda it: it.found.name == "data:v0"),
        Item("version", E, lambda it: it.found.version == "v0"),
        Item("type", E, lambda it: it.found.type == "dataset"),
        Item("aliases", E, lambda it: {"best", "latest"} <= {*it.found.aliases}),
        Item("tags", U, lambda it: it.found.tags == ["t"]),
        Item("metadata", E, lambda it: it.found.metadata == {"rows": 3}),
        Item("description", E, lambda it: it.found.description == "what it is"),
        Item("digest", E, lambda it: it.found.digest.startswith("sha256:")),
        Item("size", E, lambda it: it.found.size > 20),
        Item("file_count", U, lambda it: it.found.file_count == 5),
        Item("state", E, lambda it: (it.found.state, it.new().state) == ("COMMITTED", "PENDING")),
        Item("manifest", E, lambda it: len(it.found.manifest) == 5),
        Item("qualified_name", E, lambda it: it.found.qualified_name == "p/data:v0"),
        Item("entity", E, lambda it: it.found.entity is None),
        Item("project", E, lambda it: it.found.project == "p"),
        Item("commit_hash", U, lambda it: it.found.commit_hash.startswith("sha256:")),
        Item("created_at", U, lambda it: it.found.created_at),
        Item("updated_at", U, lambda it: it.found.updated_at),
        Item("collection", U, lambda it: it.found.collection.artifacts()[0].version == "v0"),
        Item("source_name", U, lambda it: it.found.source_name == "data:v0"),
        Item("source_version", U, lambda it: it.found.source_version == "v0"),
        Item("source_project", U, lambda it: it.found.source_project == "p"),
        Item("source_entity", U, lambda it: it.found.source_entity is None),
        Item("source_qualified_name", U, lambda it: it.found.source_qualified_name == "p/data:v0"),
        Item("source_collection", U, lambda it: it.found.source_collection.name == "data"),
        Item("distributed_id", U, lambda it: _draft(it).distributed_id == "g"),
        Item("ttl", U, _ttl),
        Item("incremental", U, lambda it: _nothing(it.found.incremental)),
        Item("url", U, lambda it: _nothing(it.found.url)),  # type: ignore[func-returns-value]
    ],
    "an entry": [
        Item("path", E, lambda it: it.entry().path == "x.txt"),
        Item("ref", E, lambda it: it.entry().ref is None and it.entry("far").ref),
        Item("digest", E, lambda it: it.new().add_file("x.txt").digest == it.entry().digest),
        Item("size", E, lambda it: it.entry().size == 5),
        Item("local_path", E, lambda it: it.new().add_file("x.txt").local_path),
        Item("extra", E, lambda it: it.entry().extra == {}),
        Item("download", E, lambda it: Path(it.entry().download(root="one")).read_text()),
        Item("ref_target", E, lambda it: it.entry("far").ref_target().startswith("file://")),
        Item("ref_url", E, lambda it: it.new().add_reference(it.entry().ref_url())),
    ],
    "a manifest": [
        Item("entries", E, lambda it: it.found.manifest.entries["x.txt"].size == 5),
        Item("get_entry_by_path", O, lambda it: it.found.manifest.get_entry_by_path("x.txt")),
        Item("get_entries_in_directory", O, lambda it: len(_in_folder(it)) == 2),
    ],
    "`Run`": [
        Item("log_artifact", E, lambda it: it.run.log_artifact("x.txt", "f", "t", ["one"]).wait()),
        Item("log_artifact(version)", E, lambda it: it.run.log_artifact(it.found) is it.found),
        Item("upsert_artifact", E, lambda it: _draft(it).file_count == 1),
        Item("finish_artifact", E, lambda it: _draft(it).version == "v0"),
        Item("use_artifact", E, lambda it: it.run.use_artifact("p/data:latest", "dataset")),
        Item("log_model", U, lambda it: it.run.log_model("x.txt", "m").wait().type == "model"),
        Item("use_model", U, lambda it: Path(it.run.use_model("m:latest")).read_text()),
        Item("log_code", U, _log_code),
        Item("finish", E, _finish),
        Item("with run", E, _finish),
        Item("id", E, lambda it: it.run.id),
        Item("name", E, lambda it: it.run.name == "n"),
        Item("project", E, lambda it: it.run.project == "p"),
        Item("group", E, lambda it: it.run.group == "g"),
        Item("job_type", E, lambda it: it.run.job_type == "train"),
        Item("config", E, lambda it: it.run.config["lr"] == it.run.config.lr == 0.1),
        Item("link_artifact", O, _link),
        Item("link_model", O, lambda it: it.run.link_model("x.txt", "r") and WITHOUT_EFFECT),
        Item("log", O, lambda it: _nothing(it.run.log({"loss": 1}))),  # type: ignore[func-returns-value]
    ],
    "`Api`": [
        Item("artifact", E, lambda it: it.api.artifact("p/data:v0", "dataset")),
        Item(
            "artifacts", E, lambda it: len(it.api.artifacts("dataset", "p/data", tags=["t"])) == 1
        ),
        Item("artifact_exists", E, lambda it: it.api.artifact_exists("data:best")),
        Item(
            "artifact_collection_exists",
            E,
            lambda it: it.api.artifact_collection_exists("data", "dataset"),
        ),
        Item(
            "artifact_types",
            U,
            lambda it: "dataset" in [each.name for each in it.api.artifact_types("p")],
        ),
        Item("artifact_type", U, lambda it: it.api.artifact_type("dataset").name == "dataset"),
        Item("artifact_collections", U, lambda it: it.api.artifact_collections("p", "dataset")[0]),
        Item(
            "artifact_collection",
            U,
            lambda it: it.api.artifact_collection("dataset", "p/data").name == "data",
        ),
        Item("runs", U, lambda it: it.run.id in [r.id for r in _any(it.api).runs("p")]),
        Item("run", U, lambda it: _find_run(it).id == it.run.id),
        Item("run.logged_artifacts", U, lambda it: [*_find_run(it).logged_artifacts()]),
        Item("run.used_artifacts", U, lambda it: [*_find_run(it).used_artifacts()]),
    ],
    "a type, an artifact": [
        Item("name", O, lambda it: it.found.collection.name == "data"),
        Item("type", O, lambda it: it.found.collection.type == "dataset"),
        Item("project", O, lambda it: it.found.collection.project == "p"),
        Item("collections", O, lambda it: len(it.api.artifact_type("dataset").collections()) == 1),
        Item("collection", O, lambda it: it.api.artifact_type("dataset").collection("data")),
        Item("artifacts", O, lambda it: len(it.found.collection.artifacts()) == 1),
        Item("versions", O, lambda it: it.found.collection.versions()[0].name == "data:v0"),
        Item("aliases", O, lambda it: _is(it.found.collection.aliases, ["best", "latest"])),
        Item("created_at", O, lambda it: it.found.collection.created_at),
        Item("updated_at", O, lambda it: it.found.collection.updated_at),
        Item("delete", O, _delete_all),
        Item("description", O, lambda it: _nothing(it.found.collection.description)),
        Item("tags", O, lambda it: _nothing(it.found.collection.tags)),
        Item("save", O, lambda it: _nothing(it.found.collection.save())),  # type: ignore[func-returns-value]
    ],
    "`Table`": [
        Item("Table", E, lambda _: _table().columns == ["a", "b"]),
        Item("add_data", E, lambda _: len(_table().data) == 2),
        Item("add_column", E, lambda _: _table().data[1] == [2, 4]),
        Item("get_column", E, lambda _: _table().get_column("b") == [3, 4]),
        Item("get_dataframe", E, lambda _: list(_table().get_dataframe()["a"]) == [1, 2]),
        Item("iterrows", E, lambda _: [row for _, row in _table().iterrows()] == [[1, 3], [2, 4]]),
    ],
    "module": [
        Item("init", E, lambda it: it.run),
        Item("run", E, lambda it: wherry.run is it.run),
        Item("config", E, lambda _: wherry.config["lr"] == 0.1),
        Item("finish", E, lambda _: callable(wherry.finish)),
        Item("log_artifact", E, lambda _: wherry.log_artifact("x.txt", "top", "t").wait()),
        Item("use_artifact", E, lambda _: wherry.use_artifact("top:latest").version == "v0"),
        Item("Settings", E, lambda _: wherry.Settings(silent=True)),
        Item("Artifact", E, lambda _: wherry.Artifact("a", "t")),
        Item("Api", E, lambda _: wherry.Api({"project": "p"}).artifact("data:best")),
        Item("errors", E, lambda _: issubclass(wherry.errors.CommError, Exception)),
        Item("data_types", E, lambda _: data_types.Table is wherry.Table),
        Item("log", O, lambda _: _nothing(wherry.log({"loss": 1}))),  # type: ignore[func-returns-value]
        Item("login", O, lambda _: wherry.login(key="k") and WITHOUT_EFFECT),
        Item("data_types.JoinedTable", O, lambda _: data_types.JoinedTable("a", "b", "key")),
        Item("data_types.Image", O, lambda _: data_types.Image("cat.png")),
    ],
    "`errors`": [
        Item("CommError", E, lambda it: _raises(wherry.CommError, lambda: it.api.artifact("none"))),
        Item("UsageError", O, lambda it: _raises(wherry.UsageError, it.found.file)),
        Item("Error", O, lambda it: _raises(wherry.Error, lambda: it.new().version)),
        Item("WaitTimeoutError", E, lambda _: issubclass(errors.WaitTimeoutError, TimeoutError)),
        Item(
            "ArtifactNotLoggedError",
            E,
            lambda it: _raises(errors.ArtifactNotLoggedError, lambda: it.new().version),
        ),
        Item("ArtifactFinalizedError", E, _finalize),
    ],
    "command line": [
        Item("put", E, lambda _: _cli("put", "x.txt", "--name", "p/cli", "--type", "t")),
        Item("get", E, lambda _: _cli("get", "p/cli", "--root", "out-cli")),
        Item("ls", E, lambda _: "v0" in _cli("ls", "p/cli")),
        Item("cache cleanup", E, lambda _: _cli("cache", "cleanup", "1GB")),
    ],
}


def outcome(it: World, item: Item) -> str:
    """Make the call: "works", "without effect", "later", or what went wrong."""
    try:
        value = item.call(it)
    except errors.NotYet as error:
        return "later" if " yet" in str(error) else f"raised NotYet: {error}"
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        return f"raised {type(error).__name__}: {error}"
    if value == WITHOUT_EFFECT:
        return WITHOUT_EFFECT
    return "works" if value else f"gave {value!r}"


def main() -> None:
    """Print what came of each call, by row."""
    warnings.simplefilter("ignore")
    world = new_world()
    found = {row: {it.name: outcome(world, it) for it in items} for row, items in ROWS.items()}
    world.run.finish()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
