"""``wherry gc``: what lies in a store and is nobody's."""

from __future__ import annotations

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import WrongUsage, command, option
from wherry.cli.words import count_text, local_time, printable, read_span


@command(
    option("--uploads", action="store_true", help="Uploads in parts that were begun and left."),
    option("--remove", action="store_true", help="Remove what is found."),
    option(
        "--older-than",
        metavar="TIME",
        type=params.check_span,
        default="7d",
        help="Only what began so long ago: 12h, 7d. [default: %(default)s]",
    ),
    params.STORE,
    params.JSON,
)
def gc(uploads: bool, remove: bool, older_than: str, store: str | None, json: bool) -> None:
    """Find what lies in a store and is nobody's, and remove it on request.

    Big files go up in parts. What a machine has sent of one that it never
    finished stays in the bucket, is paid for, and is in no listing of
    objects. What this home is still working on is left out; another home's
    work can't be told from what was left, but by its age: so nothing that
    began within --older-than is shown. A rule of the bucket that ends
    incomplete uploads after some days does the same by itself. On gs://
    nothing lists them, and each ends after a week.

      wherry gc --uploads
      wherry gc --uploads --older-than 2d --remove

    --json gives an array: key, upload, begun, removed.
    """
    if not uploads:
        raise WrongUsage("say what to look for: --uploads")
    chosen = settings(None, store)
    found = Daemon(chosen).collect_uploads(read_span(older_than), remove=remove)
    if json:
        output.print_array(map(_json, found))
        return
    rows = [(local_time(each.begun), printable(each.key)) for each in found]
    output.print_table(("begun", "removed" if remove else "of"), rows)
    left = count_text(len(rows), "upload")
    if chosen.store.startswith("gs:"):
        output.note(
            "nothing lists the uploads of a gs:// store; each that was left ends after a week"
        )
    elif remove or not rows:
        output.note(f"{left} removed" if remove else f"no upload is older than {older_than}")
    else:
        output.note(f"{left}; add --remove to have the parts removed")


def _json(upload: pb.StrayUpload) -> dict[str, object]:
    return {
        "key": upload.key,
        "upload": upload.upload,
        "begun": upload.begun,
        "removed": upload.removed,
    }
