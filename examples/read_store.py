"""Read and check a Wherry folder store without Wherry (docs/store-format.md).

    python read_store.py ~/.wherry/store

Prints each version; ends with an error at the first thing that is not what it should be. It reads files
whole, and leaves `content` out, which needs all of RFC 8785 for the numbers in metadata.
"""

import hashlib
import json
import sys
from pathlib import Path
from urllib.parse import unquote

import zstandard


def check(good, what):
    if not good:
        sys.exit(f"{what} is not what it should be")


def read_json(path):
    value = json.loads(path.read_bytes())
    check(value["format"] == 1, f"the format of {path}")
    return value


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def read(project, kind, digest):
    return (project / kind / "sha256" / digest[7:9] / digest[7:]).read_bytes()


def read_entry(project, entry):
    if "pack" not in entry:
        return read(project, "blobs", entry["digest"])
    start = entry["offset"]
    return read(project, "packs", "sha256:" + entry["pack"])[start : start + entry["size"]]


def check_version(project, record):
    packed = read(project, "manifests", record["manifest"])
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    check(sha256(plain) == record["manifest"], record["manifest"])
    lines = ""
    for entry in map(json.loads, plain.splitlines()):
        values = [entry.get(field) for field in ("path", "digest", "size", "ref", "version")]
        lines += json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"
        if "ref" not in entry:
            check(sha256(read_entry(project, entry)) == entry["digest"], entry["path"])
    check(sha256(lines.encode()) == record["digest"], "the entries' digest")


def main(root):
    read_json(root / "wherry.json")
    for versions in sorted(root.glob("*/artifacts/*/versions")):
        project, name = versions.parents[2], versions.parent.name
        numbers = sorted(
            int(key.stem[1:]) for key in versions.glob("v*.json") if key.stem[1:].isdigit()
        )
        check(numbers == list(range(len(numbers))), f"the row of numbers in {versions}")
        for number in numbers:
            record, title = read_json(versions / f"v{number:08}.json"), f"{unquote(name)} v{number}"
            check(record["version"] == number, title)
            found = "deleted"
            if "deleted" not in record:
                check_version(project, record)
                found = f"{record['entries']} entries, {record['size']} bytes, good"
            print(f"{unquote(project.name)}/{title}: {found}")


main(Path(sys.argv[1]))
