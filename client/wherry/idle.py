"""Contents in disabled mode. Owns: doing nothing, fast. Does not own: the rules for paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from wherry.contents import Contents
from wherry.references import Found
from wherry.rows import Kind, Origin, Row
from wherry.spool_file import check_mode
from wherry.wire import names


class IdleContents(Contents):
    """Remembers the names of single files and nothing else; the disk is not touched."""

    keeps = False

    def add_file(self, local: str, path: str, *, immutable: bool, overwrite: bool) -> None:
        """Remember a name; whether the file is there is not looked at."""
        del immutable, overwrite
        names.check_path(path)
        with self.changing():
            origin = self.table.add_origin(Origin(local))
            self.table.put(path, Row(Kind.IN_PLACE, 0, origin, 0, 0, 0, 0, 0))

    def add_tmp_file(self, local: str, path: str, *, immutable: bool, overwrite: bool) -> str:
        """Remember a name, without the digest that nobody made."""
        self.add_file(local, path, immutable=immutable, overwrite=overwrite)
        return path

    def add_folder(self, local: str, prefix: str, *, immutable: bool, overwrite: bool) -> None:
        """Do nothing."""
        del local, prefix, immutable, overwrite
        with self.changing():
            return

    def add_references(self, found: Found) -> None:
        """Do nothing."""
        del found
        with self.changing():
            return

    @contextlib.contextmanager
    def new_file(self, path: str, mode: str, encoding: str | None) -> Iterator[IO[str] | IO[bytes]]:
        """Open a file that forgets what is written to it."""
        names.check_path(path)
        check_mode(mode)
        with self.changing():
            self.table.put(path, Row(Kind.IN_PLACE, 0, -1, 0, 0, 0, 0, 0))
        with open(os.devnull, mode.replace("x", "w"), encoding=encoding) as forgotten:
            yield forgotten
