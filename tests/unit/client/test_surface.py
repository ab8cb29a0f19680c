"""The public surface: names, signatures, kinds of errors, and what it costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import tracemalloc
from collections.abc import Callable

import pytest

import wherry
from wherry import errors
from wherry.contents import Contents
from wherry.rows import Kind, Origin, Row, packed

Program = Callable[..., subprocess.CompletedProcess[str]]

# As wandb 0.31.0 has them.
OURS = {
    "Artifact.add_reference": ("keep_secrets",),
    "Artifact.download": ("hard_links",),
    "Run.finish_artifact": ("on_conflict",),
    "Table": ("format",),
}
SIGNATURES = {
    "Artifact": "name type description=None metadata=None "
    "incremental=False use_as=None storage_region=None digest_algorithm=None",
    "Artifact.add_file": "local_path name=None is_tmp=False "
    "skip_cache=False policy='mutable' overwrite=False",
    "Artifact.add_dir": "local_path name=None skip_cache=False policy='mutable' merge=False",
    "Artifact.new_file": "name mode='x' encoding=None policy='mutable'",
    "Artifact.add_reference": "uri name=None checksum=True max_objects=None",
    "Artifact.add": "obj name overwrite=False",
    "Artifact.remove": "item",
    "Artifact.wait": "timeout=None",
    "Artifact.delete": "delete_aliases=False",
    "Artifact.download": "root=None allow_missing_references=False "
    "skip_cache=None path_prefix=None multipart=None",
    "Artifact.file": "root=None",
    "Artifact.files": "names=None per_page=50",
    "Artifact.checkout": "root=None",
    "Artifact.verify": "root=None",
    "Artifact.get_entry": "name",
    "Artifact.get_path": "name",
    "Run.log_artifact": "artifact_or_path name=None type=None aliases=None tags=None",
    "Run.upsert_artifact": "artifact_or_path name=None type=None aliases=None distributed_id=None",
    "Run.finish_artifact": "artifact_or_path name=None type=None aliases=None distributed_id=None",
    "Run.use_artifact": "artifact_or_name type=None aliases=None use_as=None",
    "Run.finish": "exit_code=None quiet=None",
    "Api.artifact": "name type=None",
    "Api.artifacts": "type_name name per_page=50 tags=None",
    "init": "project=None entity=None job_type=None group=None name=None id=None config=None "
    "tags=None notes=None dir=None mode=None store=None settings=None **more",
    "log_artifact": "artifact_or_path name=None type=None aliases=None tags=None",
    "use_artifact": "artifact_or_name type=None aliases=None use_as=None",
    "Artifact.save": "project=None settings=None",
    "Artifact.get": "name",
    "Table": "columns=None data=None rows=None dataframe=None dtype=None optional=True "
    "allow_mixed_types=False log_mode='IMMUTABLE'",
    "Table.add_data": "*data",
    "Table.add_column": "name data optional=False",
    "Table.get_column": "name convert_to=None",
    "Table.get_dataframe": "",
    "Table.iterrows": "",
    "data_types.PartitionedTable": "parts_path",
    "Run.log_model": "path name=None aliases=None",
    "Run.use_model": "name",
    "entries.ManifestEntry.download": "root=None",
    "entries.ManifestEntry.ref_target": "",
    "entries.ManifestEntry.ref_url": "",
    "Api.artifact_exists": "name type=None",
    "Api.artifact_types": "project=None",
    "Api.artifact_type": "type_name project=None",
    "Api.artifact_collections": "project_name type_name per_page=50",
    "Api.artifact_collection": "type_name name",
    "catalog.ArtifactType.collections": "per_page=50",
    "catalog.ArtifactType.collection": "name",
    "catalog.ArtifactCollection.artifacts": "per_page=50",
    "Artifact.link": "target_path aliases=None",
    "Artifact.unlink": "",
    "Run.link_artifact": "artifact target_path aliases=None",
    "Run.link_model": "path registered_model_name name=None aliases=None",
    "Api.artifact_collection_exists": "name type",
}
PROPERTIES = """id name version type aliases metadata description digest size state manifest
qualified_name entity project tags ttl commit_hash file_count created_at updated_at incremental
distributed_id source_name source_version source_project source_entity source_qualified_name url collection"""


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_differs_from_the_list(name: str) -> None:
    """Parameters have W&B's names, order and defaults, and all can be given by place."""
    thing: object = wherry
    for part in name.split("."):
        thing = getattr(thing, part, None) or importlib.import_module(f"wherry.{part}")
    assert callable(thing)
    # What W&B has not stands behind all that it has, by keyword only.
    ours = OURS.get(name, ())
    parameters = [
        each for each in inspect.signature(thing).parameters.values() if each.name != "self"
    ]
    shown = [
        str(each.replace(annotation=each.empty)) for each in parameters if each.name not in ours
    ]
    assert " ".join(shown) == SIGNATURES[name]
    assert all((each.kind is each.KEYWORD_ONLY) == (each.name in ours) for each in parameters)


def test_property_is_missing() -> None:
    """An artifact has every property of the list."""
    for name in PROPERTIES.split():
        assert isinstance(getattr(wherry.Artifact, name), property), name


def test_module_hides_a_name(program: Program) -> None:
    """No import of a module of ours puts it in the place of a name of the same spelling."""
    done = program(
        """
import pkgutil, importlib, types, wherry
for module in pkgutil.iter_modules(wherry.__path__):
    if module.name != "cli":
        importlib.import_module(f"wherry.{module.name}")
named = {name: getattr(wherry, name) for name in wherry.__all__}
print([n for n, v in named.items() if isinstance(v, types.ModuleType)], named["run"])
from wherry import *
assert Artifact is wherry.Artifact
import wherry as wandb
print(wandb.__version__, wandb.errors.CommError.__name__)
"""
    )
    assert done.stdout.split("\n")[0] == "['data_types', 'errors'] None"


def test_error_kinds_are_lost() -> None:
    """Errors that ports catch are of the kinds that they catch."""
    for cls, kind in {
        errors.BadName: ValueError,
        errors.BadPath: ValueError,
        errors.PathTaken: ValueError,
        errors.TypeTaken: ValueError,
        errors.NotAsLogged: ValueError,
        errors.MissingDistributedId: TypeError,
        errors.FileMissing: FileNotFoundError,
        errors.EntryMissing: KeyError,
        errors.WaitTimeoutError: TimeoutError,
        errors.NotYet: NotImplementedError,
        errors.BadTable: ValueError,
        errors.BadValue: TypeError,
        errors.LibraryMissing: ImportError,
    }.items():
        raised = cls("what happened", hint="what to do")
        assert isinstance(raised, kind)
        assert str(raised) == "what happened\n  what to do"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"name": "a/b"}, errors.BadName),
        ({"name": "a:v1"}, errors.BadName),
        ({"name": "x" * 129}, errors.BadName),
        ({"name": ""}, errors.BadName),
        ({"type": "a\0b"}, errors.BadName),
        ({"type": ".."}, errors.BadName),
        ({"metadata": {"x": object()}}, errors.BadMetadata),
        ({"metadata": [1]}, errors.BadMetadata),
        ({"metadata": {"x": "y" * (1 << 20)}}, errors.BadMetadata),
        ({"description": 3}, errors.UsageError),
    ],
)
def test_bad_artifact_is_made(arguments: dict[str, object], kind: type[Exception]) -> None:
    """A name, type, description or metadata out of range raises when the Artifact is made."""
    with pytest.raises(kind):
        wherry.Artifact(**{"name": "n", "type": "t", **arguments})  # type: ignore[arg-type]


def test_million_entries_take_a_gigabyte() -> None:
    """A client holds under 500 bytes an entry, of a folder and of single files alike."""
    count = 20_000
    folder, single = Contents("a"), Contents("b")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        origin = folder.table.add_origin(Origin("/some/where/data/", 5))
        rows, paths = bytearray(), []
        for number in range(count):
            paths.append(f"data/folder-{number // 1000:04}/a-file-of-usual-length-{number:08}.png")
            rows += packed(Row(Kind.COPIED, 0, origin, number, 4096, 1 << 40, 1 << 40, 1 << 60))
        folder.table.put_many(paths, rows)
        del rows, paths
        after = tracemalloc.get_traced_memory()[0]
        assert (after - before) / count < 300
        for number in range(count):
            path = f"folder-{number // 1000:04}/a-file-of-usual-length-{number:08}.png"
            row = Row(
                Kind.COPIED,
                *(0, single.table.add_origin(Origin(f"/some/where/data/{path}"))),
                *(number, 4096, 1 << 40, 1 << 40, 1 << 60),
            )
            single.table.put(path, row)
        assert (tracemalloc.get_traced_memory()[0] - after) / count < 500
    finally:
        tracemalloc.stop()
    path = "data/folder-0007/a-file-of-usual-length-00007123.png"
    found = folder.table.get(path)
    assert found is not None
    assert (found.offset, folder.table.origin(path, found)) == (7123, f"/some/where/{path}")
