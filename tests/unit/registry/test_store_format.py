"""docs/store-format.md and examples/read_store.py say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.registry import example
from wherry.wire.canonical import content_digest
from wherryd.registry import layout, records
from wherryd.registry.manifest_reader import ManifestReader

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "store-format.md").read_text()
#: The page's examples: what they are called after the fence → their text.
BLOCKS = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))

Store = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The page's store as the code makes it."""
    (tmp_path / "made").mkdir()
    return example.objects(tmp_path / "made")


def test_every_example_is_looked_at() -> None:
    """No example on the page is without a test."""
    objects = {name for name in BLOCKS if name.endswith(".json")}
    assert set(BLOCKS) - objects == {
        "layout",
        "manifest",
        "digest-lines",
        "digest",
        "content",
        "content-digest",
    }
    assert len(re.findall(r"^```json", PAGE, re.MULTILINE)) == len(objects) + 3


def test_the_examples_are_the_bytes_that_the_code_writes(store: Store) -> None:
    """Each object on the page is, byte for byte, what this version puts into a store."""
    shown = {name: text.encode() for name, text in BLOCKS.items() if name.endswith(".json")}
    assert shown == {key: body for key, body in store.items() if key.endswith(".json")}


def test_the_examples_are_read_by_the_code() -> None:
    """Each object on the page is decoded to what the page tells of it."""
    decoders: dict[str, Callable[[str, bytes], object]] = {
        "wherry.json": records.decode_identity,
        "wherry-writer.json": records.decode_writer,
        "artifact.json": records.decode_claim,
        "v00000000.json": records.decode_version,
        "v00000001.json": records.decode_version,
        "v00000001.edit.json": records.decode_edit,
        "best.json": records.decode_alias,
        f"{example.RUN_HOME}-00000004.json": records.decode_run,
        f"{example.PART_ID}.json": records.decode_part,
        "sealing.json": records.decode_mark,
        "sealed.json": records.decode_sealed,
    }
    keys = [name for name in BLOCKS if name.endswith(".json")]
    read = {key: decoders[key.rpartition("/")[2]](key, BLOCKS[key].encode()) for key in keys}
    assert len(read) == len(decoders)
    assert example.TOMBSTONE in read.values()
    assert example.ALIAS in read.values()
    assert example.EDIT in read.values()
    assert example.RUN_RECORD in read.values()
    assert example.WRITER in read.values()
    assert example.SEALING in read.values()


def test_the_manifest_is_the_one_that_the_record_names(store: Store, tmp_path: Path) -> None:
    """The page's lines are the plain bytes, and the code reads them as its entries."""
    made = example.write_manifest(tmp_path / "manifest")
    reader = ManifestReader(made.manifest, "key")
    body = store[layout.manifest_key(example.PROJECT, made.manifest)]
    assert BLOCKS["manifest"].encode() == example.plain_manifest()
    assert [*reader.feed(body), reader.end()][-1] == example.LINES


def test_the_worked_digests_are_right(tmp_path: Path) -> None:
    """Whoever follows the page's steps gets the page's numbers, and the code does."""
    made = example.write_manifest(tmp_path / "manifest")
    assert (
        BLOCKS["digest"].strip() == made.digest == example.digest(BLOCKS["digest-lines"].encode())
    )
    assert BLOCKS["digest-lines"].encode() == example.digest_lines()
    content = content_digest(made.digest, "model", None, example.METADATA)
    assert BLOCKS["content-digest"].strip() == content
    assert content == example.digest(BLOCKS["content"].rstrip("\n").encode())
    for data in (example.MODEL, example.EVAL, example.PACK, BLOCKS["manifest"].encode()):
        assert f"`{example.digest(data)[7:]}`" in PAGE


def test_the_layout_is_that_of_the_code() -> None:
    """Each line of the page's tree is a key that the code makes."""
    hex_ = "ab" * 32
    tree = BLOCKS["layout"].replace("<hh>", "ab").replace("<hex>", hex_)
    for name in ("project", "name", "alias", "run", "request", "home"):
        tree = tree.replace(f"<{name}>", name)
    assert tree.split() == [
        layout.IDENTITY,
        layout.WRITER,
        layout.artifact_key("project", "name"),
        layout.version_key("project", "name", 0),
        layout.edit_key("project", "name", 0),
        layout.alias_key("project", "name", "alias"),
        layout.manifest_key("project", f"sha256:{hex_}"),
        layout.blob_key("project", f"sha256:{hex_}"),
        layout.pack_key("project", hex_),
        layout.part_key("project", hex_, "request"),
        layout.sealing_key("project", hex_),
        layout.conflict_key("project", hex_),
        layout.sealed_key("project", hex_),
        layout.run_key("project", "run", "home", 0),
    ]


def write(root: Path, objects: Store) -> None:
    """Lay a store out as a folder."""
    for key, body in objects.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(body)


def read_store(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the example, without anything of Wherry in reach."""
    command = [sys.executable, str(ROOT / "examples" / "read_store.py"), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_example_reader_checks_the_pages_store(store: Store, tmp_path: Path) -> None:
    """A program without Wherry reads what Wherry writes, and prints what the page shows."""
    write(tmp_path / "store", store)
    done = read_store(tmp_path / "store")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"~/.wherry/store\n{done.stdout}```" in PAGE


@pytest.mark.parametrize("part", ["manifests", "blobs", "packs", "v00000001", "wherry.json"])
def test_the_example_reader_sees_damage(store: Store, tmp_path: Path, part: str) -> None:
    """One changed byte in whatever a version is made of ends the check with an error."""
    key = next(key for key in store if part in key)
    changed = store[key].replace(b'"format":1', b'"format":2')
    if "/sha256/" in key:
        changed = store[key][:-2] + bytes([store[key][-2] ^ 1]) + store[key][-1:]
    write(tmp_path / "store", {**store, key: changed})
    assert read_store(tmp_path / "store").returncode != 0


def test_the_example_reader_sees_a_hole(store: Store, tmp_path: Path) -> None:
    """A record that was removed is missed."""
    del store[layout.version_key(example.PROJECT, example.NAME, 0)]
    write(tmp_path / "store", store)
    assert read_store(tmp_path / "store").returncode != 0


def test_the_example_needs_nothing_of_wherry() -> None:
    """The reader imports the standard library and zstandard only."""
    text = (ROOT / "examples" / "read_store.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"zstandard"}
