from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HelloRequest(_message.Message):
    __slots__ = ("protocol", "client", "pid", "credentials")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    client: str
    pid: int
    credentials: _containers.RepeatedCompositeFieldContainer[Credentials]
    def __init__(self, protocol: _Optional[int] = ..., client: _Optional[str] = ..., pid: _Optional[int] = ..., credentials: _Optional[_Iterable[_Union[Credentials, _Mapping]]] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("store", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STORE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    store: str
    values: _containers.ScalarMap[str, str]
    def __init__(self, store: _Optional[str] = ..., values: _Optional[_Mapping[str, str]] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("protocol", "version", "pid", "home", "home_id", "draining", "busy")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    HOME_ID_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    version: str
    pid: int
    home: str
    home_id: str
    draining: bool
    busy: bool
    def __init__(self, protocol: _Optional[int] = ..., version: _Optional[str] = ..., pid: _Optional[int] = ..., home: _Optional[str] = ..., home_id: _Optional[str] = ..., draining: bool = ..., busy: bool = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("daemon", "socket", "counts", "requests", "stopped", "started", "set_aside", "locked", "spool", "runs")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    DAEMON_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    daemon: HelloReply
    socket: str
    counts: _containers.ScalarMap[str, int]
    requests: _containers.RepeatedCompositeFieldContainer[RequestState]
    stopped: _containers.RepeatedCompositeFieldContainer[LaneState]
    started: str
    set_aside: _containers.RepeatedScalarFieldContainer[str]
    locked: str
    spool: SpoolState
    runs: RunsState
    def __init__(self, daemon: _Optional[_Union[HelloReply, _Mapping]] = ..., socket: _Optional[str] = ..., counts: _Optional[_Mapping[str, int]] = ..., requests: _Optional[_Iterable[_Union[RequestState, _Mapping]]] = ..., stopped: _Optional[_Iterable[_Union[LaneState, _Mapping]]] = ..., started: _Optional[str] = ..., set_aside: _Optional[_Iterable[str]] = ..., locked: _Optional[str] = ..., spool: _Optional[_Union[SpoolState, _Mapping]] = ..., runs: _Optional[_Union[RunsState, _Mapping]] = ...) -> None: ...

class RunsState(_message.Message):
    __slots__ = ("waiting", "held", "reason")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    waiting: int
    held: int
    reason: str
    def __init__(self, waiting: _Optional[int] = ..., held: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class SpoolState(_message.Message):
    __slots__ = ("bytes", "files", "quota_bytes", "quota_files", "unlogged_bytes", "unlogged_files", "resting_bytes", "resting_files", "bytes_per_s", "waiting", "sent_bytes")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FILES_FIELD_NUMBER: _ClassVar[int]
    UNLOGGED_BYTES_FIELD_NUMBER: _ClassVar[int]
    UNLOGGED_FILES_FIELD_NUMBER: _ClassVar[int]
    RESTING_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESTING_FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    files: int
    quota_bytes: int
    quota_files: int
    unlogged_bytes: int
    unlogged_files: int
    resting_bytes: int
    resting_files: int
    bytes_per_s: float
    waiting: int
    sent_bytes: int
    def __init__(self, bytes: _Optional[int] = ..., files: _Optional[int] = ..., quota_bytes: _Optional[int] = ..., quota_files: _Optional[int] = ..., unlogged_bytes: _Optional[int] = ..., unlogged_files: _Optional[int] = ..., resting_bytes: _Optional[int] = ..., resting_files: _Optional[int] = ..., bytes_per_s: _Optional[float] = ..., waiting: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class LaneState(_message.Message):
    __slots__ = ("store", "project", "name", "reason")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    reason: str
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ShutdownRequest(_message.Message):
    __slots__ = ("why", "if_idle")
    WHY_FIELD_NUMBER: _ClassVar[int]
    IF_IDLE_FIELD_NUMBER: _ClassVar[int]
    why: str
    if_idle: bool
    def __init__(self, why: _Optional[str] = ..., if_idle: bool = ...) -> None: ...

class ShutdownReply(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    def __init__(self, accepted: bool = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("id", "name", "group", "job_type", "project", "entity")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    group: str
    job_type: str
    project: str
    entity: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., group: _Optional[str] = ..., job_type: _Optional[str] = ..., project: _Optional[str] = ..., entity: _Optional[str] = ...) -> None: ...

class NoteRunRequest(_message.Message):
    __slots__ = ("store", "run", "facts", "used", "offline", "wait", "logged")
    STORE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    LOGGED_FIELD_NUMBER: _ClassVar[int]
    store: str
    run: Run
    facts: RunFacts
    used: _containers.RepeatedScalarFieldContainer[str]
    offline: bool
    wait: bool
    logged: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., facts: _Optional[_Union[RunFacts, _Mapping]] = ..., used: _Optional[_Iterable[str]] = ..., offline: bool = ..., wait: bool = ..., logged: _Optional[_Iterable[str]] = ...) -> None: ...

class RunFacts(_message.Message):
    __slots__ = ("started", "ended", "exit_code", "notes", "tags", "config", "client")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    started: str
    ended: str
    exit_code: int
    notes: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    config: bytes
    client: str
    def __init__(self, started: _Optional[str] = ..., ended: _Optional[str] = ..., exit_code: _Optional[int] = ..., notes: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., config: _Optional[bytes] = ..., client: _Optional[str] = ...) -> None: ...

class NoteRunReply(_message.Message):
    __slots__ = ("recorded",)
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    recorded: bool
    def __init__(self, recorded: bool = ...) -> None: ...

class LogMessage(_message.Message):
    __slots__ = ("header", "entries", "end", "lookups", "whole", "removed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    header: LogHeader
    entries: EntryBatch
    end: LogEnd
    lookups: LookupBatch
    whole: LogWhole
    removed: PathBatch
    def __init__(self, header: _Optional[_Union[LogHeader, _Mapping]] = ..., entries: _Optional[_Union[EntryBatch, _Mapping]] = ..., end: _Optional[_Union[LogEnd, _Mapping]] = ..., lookups: _Optional[_Union[LookupBatch, _Mapping]] = ..., whole: _Optional[_Union[LogWhole, _Mapping]] = ..., removed: _Optional[_Union[PathBatch, _Mapping]] = ...) -> None: ...

class LogWhole(_message.Message):
    __slots__ = ("header", "entries", "lookups", "end", "removed")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    header: LogHeader
    entries: EntryBatch
    lookups: LookupBatch
    end: LogEnd
    removed: PathBatch
    def __init__(self, header: _Optional[_Union[LogHeader, _Mapping]] = ..., entries: _Optional[_Union[EntryBatch, _Mapping]] = ..., lookups: _Optional[_Union[LookupBatch, _Mapping]] = ..., end: _Optional[_Union[LogEnd, _Mapping]] = ..., removed: _Optional[_Union[PathBatch, _Mapping]] = ...) -> None: ...

class LogHeader(_message.Message):
    __slots__ = ("request_id", "store", "project", "name", "type", "description", "metadata", "aliases", "tags", "run", "inputs", "session", "folder", "offline", "power", "client", "kind", "distributed_id", "newest", "base")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTED_ID_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    store: str
    project: str
    name: str
    type: str
    description: str
    metadata: bytes
    aliases: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    run: Run
    inputs: _containers.RepeatedScalarFieldContainer[str]
    session: str
    folder: str
    offline: bool
    power: bool
    client: str
    kind: str
    distributed_id: str
    newest: bool
    base: Base
    def __init__(self, request_id: _Optional[str] = ..., store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., description: _Optional[str] = ..., metadata: _Optional[bytes] = ..., aliases: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., inputs: _Optional[_Iterable[str]] = ..., session: _Optional[str] = ..., folder: _Optional[str] = ..., offline: bool = ..., power: bool = ..., client: _Optional[str] = ..., kind: _Optional[str] = ..., distributed_id: _Optional[str] = ..., newest: bool = ..., base: _Optional[_Union[Base, _Mapping]] = ...) -> None: ...

class Base(_message.Message):
    __slots__ = ("store", "project", "version", "manifest")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    version: int
    manifest: str
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., version: _Optional[int] = ..., manifest: _Optional[str] = ...) -> None: ...

class PathBatch(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...

class EntryBatch(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("path", "digest", "size", "captured", "in_place", "reference", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    IN_PLACE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    digest: str
    size: int
    captured: Captured
    in_place: InPlace
    reference: Reference
    data: bytes
    def __init__(self, path: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., captured: _Optional[_Union[Captured, _Mapping]] = ..., in_place: _Optional[_Union[InPlace, _Mapping]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Captured(_message.Message):
    __slots__ = ("file", "offset", "linked", "stat")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LINKED_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    file: str
    offset: int
    linked: bool
    stat: Stat
    def __init__(self, file: _Optional[str] = ..., offset: _Optional[int] = ..., linked: bool = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class InPlace(_message.Message):
    __slots__ = ("file", "stat")
    FILE_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    file: str
    stat: Stat
    def __init__(self, file: _Optional[str] = ..., stat: _Optional[_Union[Stat, _Mapping]] = ...) -> None: ...

class Stat(_message.Message):
    __slots__ = ("device", "inode", "size", "mtime_ns")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    device: int
    inode: int
    size: int
    mtime_ns: int
    def __init__(self, device: _Optional[int] = ..., inode: _Optional[int] = ..., size: _Optional[int] = ..., mtime_ns: _Optional[int] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("uri", "checksum", "max_objects", "version", "resolved", "named", "sums")
    URI_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    uri: str
    checksum: bool
    max_objects: int
    version: str
    resolved: str
    named: bool
    sums: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, uri: _Optional[str] = ..., checksum: bool = ..., max_objects: _Optional[int] = ..., version: _Optional[str] = ..., resolved: _Optional[str] = ..., named: bool = ..., sums: _Optional[_Iterable[str]] = ...) -> None: ...

class LookupBatch(_message.Message):
    __slots__ = ("lookups",)
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    lookups: _containers.RepeatedCompositeFieldContainer[Lookup]
    def __init__(self, lookups: _Optional[_Iterable[_Union[Lookup, _Mapping]]] = ...) -> None: ...

class Lookup(_message.Message):
    __slots__ = ("uri", "server", "name", "max_objects")
    URI_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    uri: str
    server: str
    name: str
    max_objects: int
    def __init__(self, uri: _Optional[str] = ..., server: _Optional[str] = ..., name: _Optional[str] = ..., max_objects: _Optional[int] = ...) -> None: ...

class LogEnd(_message.Message):
    __slots__ = ("entries", "lookups", "spooled_bytes", "spooled_files", "removed")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_FILES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    entries: int
    lookups: int
    spooled_bytes: int
    spooled_files: int
    removed: int
    def __init__(self, entries: _Optional[int] = ..., lookups: _Optional[int] = ..., spooled_bytes: _Optional[int] = ..., spooled_files: _Optional[int] = ..., removed: _Optional[int] = ...) -> None: ...

class LogReply(_message.Message):
    __slots__ = ("request_id", "place")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    place: int
    def __init__(self, request_id: _Optional[str] = ..., place: _Optional[int] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("request_id", "run", "aliases")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    run: Run
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class LinkReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("request_ids", "run_ids", "every_s", "only_upserts")
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    ONLY_UPSERTS_FIELD_NUMBER: _ClassVar[int]
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    run_ids: _containers.RepeatedScalarFieldContainer[str]
    every_s: float
    only_upserts: bool
    def __init__(self, request_ids: _Optional[_Iterable[str]] = ..., run_ids: _Optional[_Iterable[str]] = ..., every_s: _Optional[float] = ..., only_upserts: bool = ...) -> None: ...

class RequestState(_message.Message):
    __slots__ = ("request_id", "project", "name", "type", "store", "run_id", "state", "place", "version", "digest", "entries", "size", "bytes_done", "error", "reason", "next_try", "accepted", "acknowledged", "ahead", "last", "kind")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEXT_TRY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    project: str
    name: str
    type: str
    store: str
    run_id: str
    state: str
    place: int
    version: int
    digest: str
    entries: int
    size: int
    bytes_done: int
    error: str
    reason: str
    next_try: str
    accepted: str
    acknowledged: bool
    ahead: int
    last: bool
    kind: str
    def __init__(self, request_id: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., store: _Optional[str] = ..., run_id: _Optional[str] = ..., state: _Optional[str] = ..., place: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., entries: _Optional[int] = ..., size: _Optional[int] = ..., bytes_done: _Optional[int] = ..., error: _Optional[str] = ..., reason: _Optional[str] = ..., next_try: _Optional[str] = ..., accepted: _Optional[str] = ..., acknowledged: bool = ..., ahead: _Optional[int] = ..., last: bool = ..., kind: _Optional[str] = ...) -> None: ...

class ListRequestsRequest(_message.Message):
    __slots__ = ("states", "project", "name", "limit", "id_part")
    STATES_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ID_PART_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[str]
    project: str
    name: str
    limit: int
    id_part: str
    def __init__(self, states: _Optional[_Iterable[str]] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., limit: _Optional[int] = ..., id_part: _Optional[str] = ...) -> None: ...

class SelectRequest(_message.Message):
    __slots__ = ("request_ids", "all", "store", "project", "name", "runs")
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    all: bool
    store: str
    project: str
    name: str
    runs: bool
    def __init__(self, request_ids: _Optional[_Iterable[str]] = ..., all: bool = ..., store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., runs: bool = ...) -> None: ...

class CountReply(_message.Message):
    __slots__ = ("count", "left_out")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    count: int
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("store", "project", "name", "version", "type")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    version: str
    type: str
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("store", "project", "name", "version", "type", "description", "metadata", "digest", "content", "manifest", "entries", "size", "aliases", "request_id", "created", "run", "inputs", "tags", "client", "edited")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    EDITED_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    version: int
    type: str
    description: str
    metadata: bytes
    digest: str
    content: str
    manifest: str
    entries: int
    size: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    created: str
    run: Run
    inputs: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    client: str
    edited: str
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., type: _Optional[str] = ..., description: _Optional[str] = ..., metadata: _Optional[bytes] = ..., digest: _Optional[str] = ..., content: _Optional[str] = ..., manifest: _Optional[str] = ..., entries: _Optional[int] = ..., size: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., created: _Optional[str] = ..., run: _Optional[_Union[Run, _Mapping]] = ..., inputs: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., client: _Optional[str] = ..., edited: _Optional[str] = ...) -> None: ...

class EditVersionRequest(_message.Message):
    __slots__ = ("store", "project", "name", "version", "description", "metadata", "tags", "add_aliases", "remove_aliases")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ADD_ALIASES_FIELD_NUMBER: _ClassVar[int]
    REMOVE_ALIASES_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    version: int
    description: Description
    metadata: bytes
    tags: Tags
    add_aliases: _containers.RepeatedScalarFieldContainer[str]
    remove_aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., description: _Optional[_Union[Description, _Mapping]] = ..., metadata: _Optional[bytes] = ..., tags: _Optional[_Union[Tags, _Mapping]] = ..., add_aliases: _Optional[_Iterable[str]] = ..., remove_aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Tags(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tags: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteVersionRequest(_message.Message):
    __slots__ = ("store", "project", "name", "version", "with_aliases")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WITH_ALIASES_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    version: int
    with_aliases: bool
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., with_aliases: bool = ...) -> None: ...

class DeleteVersionReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("store", "project", "name", "type", "before", "limit")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    type: str
    before: int
    limit: int
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("store", "project", "ids", "group", "rebuild", "used", "fresh")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    group: str
    rebuild: bool
    used: str
    fresh: bool
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., group: _Optional[str] = ..., rebuild: bool = ..., used: _Optional[str] = ..., fresh: bool = ...) -> None: ...

class RunState(_message.Message):
    __slots__ = ("run", "facts", "logged", "used")
    RUN_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LOGGED_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    run: Run
    facts: RunFacts
    logged: _containers.RepeatedScalarFieldContainer[str]
    used: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., facts: _Optional[_Union[RunFacts, _Mapping]] = ..., logged: _Optional[_Iterable[str]] = ..., used: _Optional[_Iterable[str]] = ...) -> None: ...

class TraceLineageRequest(_message.Message):
    __slots__ = ("store", "project", "name", "version", "depth", "rebuild", "fresh")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    name: str
    version: int
    depth: int
    rebuild: bool
    fresh: bool
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., depth: _Optional[int] = ..., rebuild: bool = ..., fresh: bool = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("versions", "runs", "edges", "truncated")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[LineageVersion]
    runs: _containers.RepeatedCompositeFieldContainer[LineageRun]
    edges: _containers.RepeatedCompositeFieldContainer[LineageEdge]
    truncated: bool
    def __init__(self, versions: _Optional[_Iterable[_Union[LineageVersion, _Mapping]]] = ..., runs: _Optional[_Iterable[_Union[LineageRun, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[LineageEdge, _Mapping]]] = ..., truncated: bool = ...) -> None: ...

class LineageVersion(_message.Message):
    __slots__ = ("project", "name", "version", "type", "created", "deleted", "steps", "sources")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    project: str
    name: str
    version: int
    type: str
    created: str
    deleted: bool
    steps: int
    sources: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, project: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., type: _Optional[str] = ..., created: _Optional[str] = ..., deleted: bool = ..., steps: _Optional[int] = ..., sources: _Optional[_Iterable[int]] = ...) -> None: ...

class LineageRun(_message.Message):
    __slots__ = ("run", "started", "ended")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    run: Run
    started: str
    ended: str
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., started: _Optional[str] = ..., ended: _Optional[str] = ...) -> None: ...

class LineageEdge(_message.Message):
    __slots__ = ("version", "run", "used")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    version: int
    run: int
    used: bool
    def __init__(self, version: _Optional[int] = ..., run: _Optional[int] = ..., used: bool = ...) -> None: ...

class ListArtifactsRequest(_message.Message):
    __slots__ = ("store", "project", "type", "name", "before")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    type: str
    name: str
    before: int
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., before: _Optional[int] = ...) -> None: ...

class CollectUploadsRequest(_message.Message):
    __slots__ = ("store", "older_than_s", "remove")
    STORE_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_S_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    store: str
    older_than_s: float
    remove: bool
    def __init__(self, store: _Optional[str] = ..., older_than_s: _Optional[float] = ..., remove: bool = ...) -> None: ...

class StrayUpload(_message.Message):
    __slots__ = ("key", "upload", "begun", "removed")
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    key: str
    upload: str
    begun: str
    removed: bool
    def __init__(self, key: _Optional[str] = ..., upload: _Optional[str] = ..., begun: _Optional[str] = ..., removed: bool = ...) -> None: ...

class ArtifactName(_message.Message):
    __slots__ = ("project", "name", "type", "latest", "versions", "aliases")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    project: str
    name: str
    type: str
    latest: int
    versions: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., latest: _Optional[int] = ..., versions: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class ListSchemesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSchemesReply(_message.Message):
    __slots__ = ("schemes",)
    SCHEMES_FIELD_NUMBER: _ClassVar[int]
    schemes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, schemes: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadManifestRequest(_message.Message):
    __slots__ = ("store", "project", "manifest")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    manifest: str
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., manifest: _Optional[str] = ...) -> None: ...

class ReadFilesRequest(_message.Message):
    __slots__ = ("store", "project", "manifest", "paths")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    manifest: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., manifest: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ...) -> None: ...

class FetchFilesRequest(_message.Message):
    __slots__ = ("store", "project", "manifest", "paths", "after", "links")
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    store: str
    project: str
    manifest: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    after: str
    links: bool
    def __init__(self, store: _Optional[str] = ..., project: _Optional[str] = ..., manifest: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., after: _Optional[str] = ..., links: bool = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("files", "last", "more", "bytes", "coming")
    FILES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COMING_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[FetchedFile]
    last: bool
    more: bool
    bytes: int
    coming: ComingFile
    def __init__(self, files: _Optional[_Iterable[_Union[FetchedFile, _Mapping]]] = ..., last: bool = ..., more: bool = ..., bytes: _Optional[int] = ..., coming: _Optional[_Union[ComingFile, _Mapping]] = ...) -> None: ...

class ComingFile(_message.Message):
    __slots__ = ("path", "file", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    file: str
    bytes: int
    def __init__(self, path: _Optional[str] = ..., file: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class FetchedFile(_message.Message):
    __slots__ = ("path", "file", "offset", "checked", "data", "linkable", "cached")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LINKABLE_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    path: str
    file: str
    offset: int
    checked: bool
    data: bytes
    linkable: bool
    cached: bool
    def __init__(self, path: _Optional[str] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., checked: bool = ..., data: _Optional[bytes] = ..., linkable: bool = ..., cached: bool = ...) -> None: ...

class TrimCacheRequest(_message.Message):
    __slots__ = ("most_bytes",)
    MOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    most_bytes: int
    def __init__(self, most_bytes: _Optional[int] = ...) -> None: ...

class TrimCacheReply(_message.Message):
    __slots__ = ("bytes", "files", "removed_bytes", "removed_files", "quota_bytes")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FILES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    files: int
    removed_bytes: int
    removed_files: int
    quota_bytes: int
    def __init__(self, bytes: _Optional[int] = ..., files: _Optional[int] = ..., removed_bytes: _Optional[int] = ..., removed_files: _Optional[int] = ..., quota_bytes: _Optional[int] = ...) -> None: ...

class ReadReferencesRequest(_message.Message):
    __slots__ = ("references", "check_only")
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    CHECK_ONLY_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedCompositeFieldContainer[SeenReference]
    check_only: bool
    def __init__(self, references: _Optional[_Iterable[_Union[SeenReference, _Mapping]]] = ..., check_only: bool = ...) -> None: ...

class SeenReference(_message.Message):
    __slots__ = ("path", "uri", "server", "digest", "size", "version", "start")
    PATH_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    path: str
    uri: str
    server: str
    digest: str
    size: int
    version: str
    start: int
    def __init__(self, path: _Optional[str] = ..., uri: _Optional[str] = ..., server: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., version: _Optional[str] = ..., start: _Optional[int] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("path", "data", "last", "entry", "error", "reason", "start")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    path: str
    data: bytes
    last: bool
    entry: Entry
    error: str
    reason: str
    start: int
    def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ..., last: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., error: _Optional[str] = ..., reason: _Optional[str] = ..., start: _Optional[int] = ...) -> None: ...
