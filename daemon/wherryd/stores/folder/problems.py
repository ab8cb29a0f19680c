"""What an ``OSError`` means for a store.

Owns: the translation, and finding out whether the store's folder itself is there. Does not own: errors of
the file whose bytes are put (``stores.bodies``).
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.errors import (
    AccessRefused,
    StoreDamaged,
    StoreError,
    StoreMissing,
    StoreUnavailable,
    StoreUnfit,
)
from wherryd.stores.base import ObjectMissing, OutcomeUnknown

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISPLACED = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
_UNFIT = {
    errno.ENAMETOOLONG: "takes no names as long as this",
    errno.EFBIG: "takes no files as large as this",
    errno.EXDEV: "spans several file systems",
    errno.ENOLCK: "has no file locks",
    errno.ENOTSUP: "lies on a file system that can't do this",
    errno.ENOSYS: "lies on a file system that can't do this",
}
#: What a call answers that has certainly done nothing.
_DEFINITE = {errno.ENOENT, *_FULL, *_REFUSED, *_MISPLACED, *_UNFIT}
#: What file systems answer to a call that they do not have.
UNSUPPORTED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def reading(root: str, key: str) -> Iterator[None]:
    """Run a step that reads ``key``: no file there means ``ObjectMissing``."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
        check_root(root)
        raise ObjectMissing(key) from exc
    except OSError as exc:
        raise explain(exc, root, f"reading {key}") from exc


@contextmanager
def writing(root: str, what: str) -> Iterator[None]:
    """Run a step that writes, and of which nothing is to be seen if it fails."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as exc:
        check_root(root)
        raise explain(exc, root, what) from exc
    except OSError as exc:
        raise explain(exc, root, what) from exc


@contextmanager
def unknown(what: str) -> Iterator[None]:
    """Run a step after which others may have seen what was written, though it fails."""
    try:
        yield
    except OSError as exc:
        raise OutcomeUnknown(f"{what}: written, but not known to be safe: {exc.strerror}.") from exc


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Run the one call that makes a written file visible: some failures don't tell whether it did."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _DEFINITE:
            raise
        raise OutcomeUnknown(f"{what}: {exc.strerror}; it may have happened.") from exc


def check_root(root: str) -> None:
    """Raise ``StoreMissing`` unless the store's folder is there."""
    try:
        if os.path.isdir(root):
            return
        os.stat(root)
    except FileNotFoundError as exc:
        raise missing(root) from exc
    except OSError as exc:
        raise explain(exc, root, "looking for the store's folder") from exc
    raise StoreMissing(f"The store {root} is a file, not a folder.")


def missing(root: str) -> StoreMissing:
    """Make the error for a folder that is not there."""
    return StoreMissing(
        f"The store's folder {root} is not there.",
        hint=f"Mount it, or make it with: mkdir -p {shlex.quote(root)}",
    )


def explain(error: OSError, root: str, what: str) -> StoreError:
    """Make the store's error for what the system said while doing ``what``."""
    said = f"The store {root}, {what}: {error.strerror or error}."
    if error.errno in _FULL:
        return StoreUnavailable(said, hint="Free some space there; Wherry then goes on by itself.")
    if error.errno in _REFUSED:
        return AccessRefused(said, hint=f"See who may write there: ls -ld {shlex.quote(root)}")
    if error.errno in _UNFIT:
        return StoreUnfit(f"{said} The folder {_UNFIT[error.errno]}.")
    if error.errno in _MISPLACED:
        return StoreDamaged(f"{said} A file lies where a folder is needed, or the other way round.")
    return StoreUnavailable(said)
