"""All calls of the service, by their names in the protos.

Owns: which object answers which call. Does not own: any answer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import msgspec
from google.protobuf.message import Message

from wherryd.capture.intake import Intake
from wherryd.capture.room import Fullness
from wherryd.clock import Clock
from wherryd.life import Life
from wherryd.lineage.tracer import Tracer
from wherryd.news import News
from wherryd.opened import OpenedStores
from wherryd.progress import Progress
from wherryd.queue.base import Queue
from wherryd.read.fetching import Fetcher
from wherryd.references.table import Resolvers
from wherryd.rpc.choosing import ChoosingCalls, RestartLane
from wherryd.rpc.collecting import CollectingCalls
from wherryd.rpc.editing import EditingCalls, ForWriting
from wherryd.rpc.fetching import FetchingCalls
from wherryd.rpc.log import LogCalls
from wherryd.rpc.meeting import Identity, MeetingCalls
from wherryd.rpc.reading import ReadingCalls
from wherryd.rpc.running import RunningCalls
from wherryd.rpc.service import Handler, make_handlers
from wherryd.rpc.telling import Teller, TellingCalls, TroubleOf
from wherryd.stores.credentials import CredentialSets


class Calls(msgspec.Struct, frozen=True):
    """What the calls need of the daemon's parts."""

    identity: Identity
    default_store: str
    queue: Queue
    news: News
    clock: Clock
    life: Life
    progress: Progress
    intake: Intake
    stores: OpenedStores
    credentials: CredentialSets
    restart_lane: RestartLane
    nudge: Callable[[str], None]
    trouble_of: TroubleOf
    set_aside: Callable[[], list[Path]]
    resolvers: Resolvers
    is_receiving: Callable[[], bool]
    fullness: Callable[[], Fullness]
    fetcher: Fetcher
    for_writing: ForWriting
    tracer: Tracer
    why_runs_wait: Callable[[], str]

    def handlers(self) -> grpc.GenericRpcHandler[Message, Message]:
        """The handlers that a server needs."""
        return make_handlers(self._by_name(), self.life)

    def _by_name(self) -> dict[str, Handler]:
        teller = Teller(self.queue, self.progress, self.trouble_of)
        meeting = MeetingCalls(
            self.identity,
            self.queue,
            teller,
            self.life,
            self.credentials,
            self.nudge,
            self.set_aside,
            self.is_receiving,
            self.fullness,
            self.why_runs_wait,
        )
        logging = LogCalls(self.intake, self.queue, self.life, self.default_store)
        telling = TellingCalls(teller, self.queue, self.news, self.clock, self.life)
        choosing = ChoosingCalls(self.queue, self.restart_lane, self.nudge)
        reading = ReadingCalls(self.stores, self.default_store, self.resolvers, self.clock)
        editing = EditingCalls(self.for_writing, self.default_store, self.clock)
        fetching = FetchingCalls(
            self.stores, self.default_store, self.fetcher, self.clock, self.life
        )
        collecting = CollectingCalls(self.stores, self.queue, self.default_store, self.clock)
        running = RunningCalls(self.queue, self.news, self.life, self.tracer, self.default_store)
        return {
            "Hello": meeting.hello,
            "Status": meeting.status,
            "Shutdown": meeting.shutdown,
            "NoteRun": running.note_run,
            "ListRuns": running.list_runs,
            "TraceLineage": running.trace_lineage,
            "Log": logging.log,
            "LogMany": logging.log_whole,
            "Link": logging.link,
            "Wait": telling.wait,
            "ListRequests": telling.list_requests,
            "Retry": choosing.retry,
            "Cancel": choosing.cancel,
            "Acknowledge": choosing.acknowledge,
            "Sync": choosing.sync,
            "GetVersion": reading.get_version,
            "ListVersions": reading.list_versions,
            "ListArtifacts": reading.list_artifacts,
            "ReadManifest": reading.read_manifest,
            "EditVersion": editing.edit_version,
            "DeleteVersion": editing.delete_version,
            "ReadReferences": reading.read_references,
            "ListSchemes": reading.list_schemes,
            "ReadFiles": reading.read_files,
            "FetchFiles": fetching.fetch_files,
            "TrimCache": fetching.trim_cache,
            "CollectUploads": collecting.collect_uploads,
        }
