"""``wherry cache …``: what this machine keeps of what it has downloaded."""

from __future__ import annotations

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import Group, command, option
from wherry.cli.words import count_text
from wherry.progress import size_text

_TEXT = """\
See what this machine keeps of what it has downloaded; remove some.

What is downloaded from a bucket stays in the home, so that the next download,
of any program here, takes it from the disk. It makes room by itself, as
cache_quota_bytes in config.toml says, else at a quarter of what is free.
"""

cache = Group(_TEXT, dict.fromkeys(("status", "cleanup"), "cache"))


@command(params.JSON)
def status(json: bool) -> None:
    """Show how much the cache holds.

      wherry cache status

    --json gives: bytes, files, quota_bytes, removed_bytes, removed_files.
    """
    _show(Daemon(settings()).trim_cache(None), json=json)


@command(
    option("size", metavar="SIZE", type=params.read_size, help="What may stay: 0, 500MB, 20GiB."),
    params.JSON,
)
def cleanup(size: int, json: bool) -> None:
    """Remove what was not used for the longest time, until no more than SIZE is left.

    What a download is using stays, whatever is said here.

      wherry cache cleanup 20GiB
      wherry cache cleanup 0

    --json gives the keys of `wherry cache status --json`: bytes, files,
    quota_bytes, removed_bytes, removed_files.
    """
    found = Daemon(settings()).trim_cache(size)
    if not json:
        removed = count_text(found.removed_files, "file")
        output.note(f"{removed} removed, {size_text(found.removed_bytes)}")
    _show(found, json=json)


def _show(found: pb.TrimCacheReply, *, json: bool) -> None:
    if json:
        output.print_json(
            {
                "bytes": found.bytes,
                "files": found.files,
                "quota_bytes": found.quota_bytes,
                "removed_bytes": found.removed_bytes,
                "removed_files": found.removed_files,
            }
        )
        return
    held = f"{size_text(found.bytes)} of {size_text(found.quota_bytes)}"
    output.print_text(f"The cache holds {held}, in {count_text(found.files, 'file')}.")
