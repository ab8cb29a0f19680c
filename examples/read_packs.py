"""Fetch a version over plain HTTP, its small files by few range requests (docs/store-format.md, "Packs").

    python read_packs.py https://host/bucket/prefix cats pets 3 folder

Project and artifact are written as in keys: percent-encoded. For a bucket that anybody may read.
"""

import hashlib
import json
import sys
from itertools import groupby
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import zstandard

root, project, name, number, folder = sys.argv[1:]


def get(key, begin=0, end=None):
    wanted = {} if end is None else {"Range": f"bytes={begin}-{end - 1}"}
    with urlopen(
        Request(f"{root}/{project.replace('%', '%25')}/{quote(key)}", headers=wanted)
    ) as answer:
        return answer.read()


def key_of(kind, hex_):
    return f"{kind}/sha256/{hex_[:2]}/{hex_}"


def end_of(entry):
    return entry["offset"] + entry["size"]


record = json.loads(get(f"artifacts/{name}/versions/v{int(number):08}.json"))
frame = get(key_of("manifests", record["manifest"][7:]))
lines = zstandard.ZstdDecompressor().decompressobj().decompress(frame).splitlines()
files = [entry for entry in map(json.loads, lines) if "ref" not in entry]
for pack, group in groupby(files, key=lambda entry: entry.get("pack") or entry["digest"]):
    entries = list(group)
    if "pack" not in entries[0]:
        entries[0]["offset"], begin, stretch = 0, 0, get(key_of("blobs", pack[7:]))
    else:
        begin, end = min(entry["offset"] for entry in entries), max(map(end_of, entries))
        stretch = get(key_of("packs", pack), begin, end) if end > begin else b""
    for entry in entries:
        data = stretch[entry.get("offset", 0) - begin :][: entry["size"]]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry["digest"], entry["path"]
        path = Path(folder, entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
