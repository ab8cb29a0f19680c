"""The daemon's calls as the commands make them.

Owns: which home, project and store a command means, and the form of each call. Does not own:
connections and starting a daemon (``wherry.connection``), what is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from wherry import messages as pb
from wherry.errors import NotFoundError
from wherry.wire import places
from wherry.wire.settings import Settings, load

if TYPE_CHECKING:
    from wherry.connection import Connection

#: "All of them", where a call wants a number.
NO_LIMIT = 2**31 - 1
_IDS_A_CALL = 10_000  # 0.4 MB; servers refuse messages over 4 MB


def settings(project: str | None = None, store: str | None = None) -> Settings:
    """Find the settings that count for a command.

    Args:
        project: as given to the command, if it was.
        store: likewise.

    Raises:
        BadSetting, UsageError: one of them can't be used.
    """
    return load({"project": project, "store": store}, os.environ, places.home())


def has_queue(chosen: Settings) -> bool:
    """Tell whether anything was ever logged in this home."""
    return (chosen.home / places.QUEUE).exists()


class Daemon:
    """The daemon of one home. All but ``running`` and ``stop`` start it if none runs."""

    def __init__(self, chosen: Settings) -> None:
        self.settings = chosen
        self._connection = _connect(chosen)

    def running(self) -> pb.HelloReply | None:
        """Say who runs; None where nobody does."""
        return self._connection.ask_running()

    def start(self) -> pb.HelloReply:
        """Say who runs; start a daemon first if none does."""
        return self._connection.hello()

    def stop(self, why: str, *, if_idle: bool) -> bool:
        """Ask the daemon to leave; False where none runs, or it has work and ``if_idle`` was said."""
        return self._connection.shut_down(why, if_idle=if_idle)

    def status(self) -> pb.StatusReply:
        """Say what the daemon does, and what it failed to do."""
        return self._connection.unary("Status", pb.StatusRequest(), pb.StatusReply)

    def requests(
        self,
        states: Sequence[str] = (),
        project: str = "",
        name: str = "",
        limit: int = NO_LIMIT,
    ) -> Iterator[pb.RequestState]:
        """List requests, oldest first; those that Status shows where no states are named."""
        wanted = pb.ListRequestsRequest(states=states, project=project, name=name, limit=limit)
        return self._connection.server_stream("ListRequests", wanted, pb.RequestState)

    def whole_list(
        self,
        states: Sequence[str],
        project: str = "",
        name: str = "",
        timeout_s: float | None = None,
    ) -> list[pb.RequestState]:
        """List requests as they are at one time, also where the daemon ends meanwhile.

        Raises:
            WaitTimeoutError: the time is over.
        """
        wanted = pb.ListRequestsRequest(states=states, project=project, name=name, limit=NO_LIMIT)
        return self._connection.whole_stream(
            "ListRequests", wanted, pb.RequestState, timeout_s=timeout_s
        )

    def resolve(self, names: Sequence[str], timeout_s: float | None = None) -> list[str]:
        """Find the requests' whole ids; an end or a beginning that only one has will do.

        Args:
            names: ids, or parts.
            timeout_s: for each of them.

        Raises:
            NotFoundError: no request, or more than one, is meant.
            WaitTimeoutError: the time is over.
        """
        return [
            self._whole(name, timeout_s) if len(name) < _ID_CHARACTERS else name for name in names
        ]

    def _whole(self, part: str, timeout_s: float | None) -> str:
        wanted = pb.ListRequestsRequest(id_part=part.lower(), limit=_NAMED + 1)
        states = self._connection.whole_stream(
            "ListRequests", wanted, pb.RequestState, timeout_s=timeout_s
        )
        return _only(part, [state.request_id for state in states])

    def wait(self, ids: Sequence[str], timeout_s: float | None) -> Iterator[pb.RequestState]:
        """Tell each change of these requests until all have ended.

        Raises:
            WaitTimeoutError: the time is over.
        """
        wanted = pb.WaitRequest(request_ids=ids, every_s=_EVERY_S)
        return self._connection.server_stream("Wait", wanted, pb.RequestState, timeout_s)

    def select(self, method: str, wanted: pb.SelectRequest) -> pb.CountReply:
        """Call Retry, Cancel, Acknowledge or Sync, in parts where many requests are named."""
        ids = list(wanted.request_ids)
        if len(ids) <= _IDS_A_CALL:
            return self._connection.unary(method, wanted, pb.CountReply)
        replies = [
            self._connection.unary(method, pb.SelectRequest(request_ids=part), pb.CountReply)
            for part in (ids[at : at + _IDS_A_CALL] for at in range(0, len(ids), _IDS_A_CALL))
        ]
        left_out = [line for reply in replies for line in reply.left_out]
        return pb.CountReply(count=sum(reply.count for reply in replies), left_out=left_out)

    def artifacts(
        self, type_: str = "", timeout_s: float | None = None
    ) -> Iterator[pb.ArtifactName]:
        """List the project's artifacts."""
        chosen = self.settings
        wanted = pb.ListArtifactsRequest(store=chosen.store, project=chosen.project, type=type_)
        return self._connection.server_stream("ListArtifacts", wanted, pb.ArtifactName, timeout_s)

    def collect_uploads(self, older_than_s: float, *, remove: bool) -> Iterator[pb.StrayUpload]:
        """List uploads in parts that are nobody's, having them removed where that is asked for."""
        wanted = pb.CollectUploadsRequest(
            store=self.settings.store, older_than_s=older_than_s, remove=remove
        )
        return self._connection.server_stream("CollectUploads", wanted, pb.StrayUpload)

    def trim_cache(self, most_bytes: int | None) -> pb.TrimCacheReply:
        """Tell what the cache holds, after it was made to hold no more than so much; None: as it is."""
        wanted = pb.TrimCacheRequest(most_bytes=most_bytes)
        return self._connection.unary("TrimCache", wanted, pb.TrimCacheReply, timeout_s=600.0)

    def versions(self, project: str, name: str, type_: str = "") -> Iterator[pb.Version]:
        """List an artifact's versions, newest first."""
        wanted = pb.ListVersionsRequest(
            store=self.settings.store, project=project, name=name, type=type_
        )
        return self._connection.server_stream("ListVersions", wanted, pb.Version)

    def version(self, project: str, name: str, version: str, type_: str = "") -> pb.Version:
        """Give one version. Raises ``NotFoundError``."""
        wanted = pb.GetVersionRequest(
            store=self.settings.store, project=project, name=name, version=version, type=type_
        )
        return self._connection.unary("GetVersion", wanted, pb.Version)

    def edit(self, found: pb.Version, changes: pb.EditVersionRequest) -> pb.Version:
        """Change a version; give it as it is then. Raises ``BadName``, ``NotFoundError``."""
        from wherry import stored

        return stored.edit(stored.StoredVersion(self.settings.home, found), changes).record

    def entries(self, version: pb.Version) -> Iterator[pb.Entry]:
        """Give a version's entries by path."""
        wanted = pb.ReadManifestRequest(
            store=version.store or self.settings.store,
            project=version.project,
            manifest=version.manifest,
        )
        for batch in self._connection.server_stream("ReadManifest", wanted, pb.EntryBatch):
            yield from batch.entries


#: Unchanged states come again this often, so that a progress line stays alive.
_EVERY_S = 2.0
_ID_CHARACTERS = 36
_NAMED = 5


def _connect(chosen: Settings) -> Connection:
    from wherry.connection import connect
    from wherry.wire.address import credentials_from, needs_credentials

    connection = connect(chosen.home)
    if needs_credentials(chosen.store):
        connection.offer_credentials(chosen.store, credentials_from(os.environ, chosen.store))
    return connection


def _only(part: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise NotFoundError(
            f"{part} may be any of several requests: {listed}.", hint="Write more of the id."
        )
    raise NotFoundError(f"There is no request {part}.", hint="`wherry queue` lists the requests.")
