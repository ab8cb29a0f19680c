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


def get(key, wanted=""):
    url = f"{root}/{project.replace('%', '%25')}/{quote(key)}"
    with urlopen(Request(url, headers={"Range": wanted} if wanted else {})) as answer:
        return answer.read()


def key_of(kind, hex_):
    return f"{kind}/sha256/{hex_[:2]}/{hex_}"


def holder_of(entry):
    return (
        key_of("packs", entry["pack"]) if "pack" in entry else key_of("blobs", entry["digest"][7:])
    )


record = json.loads(get(f"artifacts/{name}/versions/v{int(number):08}.json"))
frame = get(key_of("manifests", record["manifest"][7:]))
lines = zstandard.ZstdDecompressor().decompressobj().decompress(frame).splitlines()
files = [{"offset": 0, **entry} for entry in map(json.loads, lines) if "ref" not in entry]
for key, group in groupby(files, holder_of):
    entries = list(group)
    begin = min(entry["offset"] for entry in entries)
    end = max(entry["offset"] + entry["size"] for entry in entries)
    stretch = get(key, f"bytes={begin}-{end - 1}") if end > begin else b""
    for entry in entries:
        data = stretch[entry["offset"] - begin :][: entry["size"]]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry["digest"], entry["path"]
        path = Path(folder, entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
