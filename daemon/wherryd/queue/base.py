"""The queue as the stages see it. Owns: the verbs and what they promise.

Does not own: what a stage does with a request, or which number it tries (``commit``).

Every method that changes something returns after the change is durable (group commit: many callers
share one sync). A method that names a request which is not in a state that the change may start
from raises ``WrongState`` and changes nothing, so that every step may be done twice. The change of a
caller that is cancelled while it waits may be made all the same.

Any method may raise ``QueueError`` when the database can't be used, and ``QueueFull`` when its disk is
full: then nothing was changed, and the same call may be made again. While another program holds the
database, callers wait; those who wait for a client (``stage``, ``accept``, ``link``, and what users say) get
``QueueLocked`` after 20 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from wherry.errors import QueueError, SpoolFull
from wherry.wire.room import Room
from wherryd.model import (
    Base,
    Entry,
    Lane,
    Lookup,
    Manifest,
    NoteKind,
    PartSums,
    Place,
    RequestKind,
    RunInfo,
    State,
    Upload,
)


class QueueFull(SpoolFull, QueueError):
    """The disk that holds the queue is full. Users see ``SpoolFull``; stages catch ``QueueError``."""


class WrongState(Exception):
    """The request is not in a state that this change may start from (cancelled meanwhile, say)."""


class NewRequest(msgspec.Struct, frozen=True):
    """A request as it comes in; the columns of ``requests`` of the same names."""

    id: str
    body: bytes
    lane: Lane
    type: str
    description: str | None
    metadata: str
    aliases: list[str]
    tags: list[str]
    inputs: list[str]
    run: RunInfo
    client: str
    folder: str
    entries: int
    size: int
    offline: bool = False
    synced: bool = False  # the captured bytes survive a power loss already
    lookups: int = 0
    spooled: Room = Room()  # what its folder holds
    kind: RequestKind = RequestKind.LOG
    draft: str = ""  # <hex>; of an upsert or a finish
    newest: bool = (
        False  # of a finish: at a path with other bytes in two parts, the later one counts
    )
    base: Base | None = None  # its entries are changes to this


class Request(msgspec.Struct, frozen=True):
    """A row of ``requests``."""

    row: int
    id: str
    place: int | None
    state: State
    lane: Lane
    type: str
    description: str | None
    metadata: str
    aliases: list[str]
    tags: list[str]
    inputs: list[str]
    run: RunInfo
    client: str
    folder: str
    accepted: float
    floor: int
    floor_store: str
    entries: int
    size: int
    manifest: str | None
    digest: str | None
    content: str | None
    number: int | None
    record: bytes | None
    version: int | None
    error: str
    reason: str
    next_try: float | None
    acknowledged: bool
    ended: float | None
    logged: float = 0.0  # when it first became durable; ``accepted`` is renewed by sync and retry
    lookups: int = 0  # that are not done
    sent_since: float | None = None  # since when it has put all that it names; None: some was there
    kind: RequestKind = RequestKind.LOG
    draft: str = ""  # <hex>; of an upsert or a finish
    newest: bool = (
        False  # of a finish: at a path with other bytes in two parts, the later one counts
    )
    sealed: bytes | None = None  # of a finish that is sending: its ``sealed.json``
    base: Base | None = None  # its entries are changes to this


class Packed(msgspec.Struct, frozen=True):
    """Which bytes of a pack an entry has."""

    path: str
    pack: str  # <hex>
    offset: int


class Sent(msgspec.Struct, frozen=True):
    """Bytes that a store holds."""

    digest: str  # of a whole pack: pack:<hex>
    size: int
    place: Place = Place()
    sender: int | None = None  # row of the request that put the object; None: it was there


class DoneRecord(msgspec.Struct, frozen=True):
    """What is known of an object that the store holds."""

    size: int
    seen: float  # when it was noted last
    sender: int | None  # as in ``Sent``


class GivenUp(msgspec.Struct, frozen=True):
    """An upload in parts that no request goes on with."""

    number: int  # of its row
    address: str
    store_id: str
    project: str
    digest: str  # of the blob that it was to become
    name: str  # what the store calls it


class Gathered(msgspec.Struct, frozen=True):
    """A line of one part's manifest."""

    path: str
    part: int  # which part it is of, in the order in which they count
    line: bytes  # JSON, ``ManifestEntry``


class Known(msgspec.Struct, frozen=True):
    """What this home knows of an artifact in the store that counts now."""

    store_id: str  # "" before the first contact
    type: str | None
    highest: int
    highest_request: str


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a request that is durable."""

    row: int
    place: int | None  # None: held by offline mode
    again: bool  # the same request had been accepted before


class Finding(msgspec.Struct, frozen=True):
    """What a lookup has led to: all of it, or the next part of a listing."""

    number: int
    entries: Sequence[Entry]
    found: int  # entries in all, with these
    is_prefix: bool = False
    after: str = ""  # where the listing goes on
    is_done: bool = True


class Link(msgspec.Struct, frozen=True):
    """A further run that logged a request's artifact, and the aliases that it gave."""

    run: RunInfo
    aliases: list[str]


class RunPlace(msgspec.Struct, frozen=True, order=True):
    """Where a run's record goes, and whose it is."""

    store: str  # address
    place: str  # the project below which it lies
    project: str  # the run's
    run_id: str


class Note(msgspec.Struct, frozen=True):
    """One thing that a run has done, or what it is."""

    place: RunPlace
    run: RunInfo
    kind: NoteKind
    value: str  # "project/name:v3"; of a draft its <hex>; of facts JSON, ``RunFacts``
    is_end: bool = False  # facts that tell of the run's end
    noted: float = 0.0


class KeptRecord(msgspec.Struct, frozen=True):
    """A run's record that may have been sent."""

    number: int
    store: str  # address
    place: str  # the project below which it lies
    run_id: str
    body: bytes


class Filter(msgspec.Struct, frozen=True):
    """Which requests a listing shows; empty fields do not narrow it."""

    states: tuple[State, ...] = ()
    ids: tuple[str, ...] = ()
    id_part: str = (
        ""  # those whose id begins or ends so; other fields but ``limit`` do not count then
    )
    run_id: str = ""  # requests that this run logged, or is linked to
    project: str = ""
    name: str = ""
    not_acknowledged: bool = False  # failed ones only where nobody has acknowledged them
    without_stores: tuple[str, ...] = ()  # addresses whose requests are left out
    asking: bool | None = None  # whether they have lookups that are not done; None: all
    without_rows: tuple[int, ...] = ()  # left out where only states are asked for
    limit: int = 1000


#: Topic of the news that something was noted of a run, or has arrived in the store.
RUNS = "runs"


class Queue(Protocol):
    """One home's queue."""

    @property
    def locked(self) -> str:
        """Why nothing can be written at the moment: another program holds the database; else ""."""
        ...

    # ── coming in (rpc) ────────────────────────────────────────────────────────────────────────
    def new_row(self) -> int:
        """A row number for a stream that begins; never given twice."""
        ...

    async def stage(self, row: int, entries: Sequence[Entry]) -> None:
        """Take a batch of a stream's entries; nothing until ``accept``. Raises ``PathTaken``.

        A small stream's entries are held in memory, and become durable together with its request.
        After an error the stream is to be abandoned.
        """
        ...

    async def stage_lookups(self, row: int, lookups: Sequence[Lookup]) -> None:
        """Write a batch of a stream's lookups; nothing until ``accept``, which knows their number."""
        ...

    async def stage_removed(self, row: int, paths: Sequence[str]) -> None:
        """Write paths that a stream takes out of its base; nothing until ``accept``."""
        ...

    async def accept(
        self, row: int, request: NewRequest, lookups: Sequence[Lookup] = ()
    ) -> Accepted:
        """Make the request durable, with the last of its lookups, and give it its place in line.

        The same id with the same body again gives the first answer, whatever became of the request,
        and forgets what was staged for this row.

        Raises ``RequestIdTaken`` (same id, another body) and ``TypeTaken`` (this home knows that the
        name belongs to another type, in the store or by an earlier request that has not ended).
        """
        ...

    async def abandon(self, row: int) -> None:
        """Forget a stream that was cut before its end; nothing if its request was accepted."""
        ...

    async def link(
        self, request_id: str, run: RunInfo, aliases: Sequence[str], project: str = ""
    ) -> None:
        """Note that a further run logged this request's artifact. Raises ``NotFoundError``.

        Args:
            project: the run's; "" for the request's.
        """
        ...

    async def links(self, request_id: str) -> list[Link]:
        """The further runs that logged this request's artifact."""
        ...

    # ── looking ────────────────────────────────────────────────────────────────────────────────
    async def find(self, filter_: Filter) -> list[Request]:
        """Requests by place; held ones last."""
        ...

    async def get(self, row: int) -> Request:
        """One request. Raises ``NotFoundError``."""
        ...

    async def counts(self) -> dict[State, int]:
        """How many requests are in each state."""
        ...

    async def spooled(self) -> dict[State, Room]:
        """What the requests in each state hold of the spool."""
        ...

    async def entries(self, row: int, after: str | None = None, limit: int = 1000) -> list[Entry]:
        """A request's entries by path, from the first path above ``after``."""
        ...

    async def entries_in_place(
        self, row: int, spool: str, after: str | None = None, limit: int = 1000
    ) -> list[Entry]:
        """As ``entries``, of those only whose bytes lie elsewhere than below ``spool`` (with its "/")."""
        ...

    async def rows_in_place(self, rows: Sequence[int], spool: str) -> set[int]:
        """Those of the requests that ``entries_in_place`` gives entries of."""
        ...

    async def removed(self, row: int, after: str | None = None, limit: int = 1000) -> list[str]:
        """Paths that a request takes out of its base, sorted, from the first above ``after``."""
        ...

    async def was_found(self, row: int, path: str) -> bool:
        """Whether a lookup led to an entry of the request; else the client sent it."""
        ...

    async def ahead(self, row: int) -> int:
        """How many requests of its lane come before it and have not ended."""
        ...

    async def folders(self) -> set[str]:
        """Folders below spool/ that requests still need: not those of requests that are done or
        cancelled, or whose failure was acknowledged.
        """
        ...

    # ── prepare ────────────────────────────────────────────────────────────────────────────────
    async def save_digests(self, row: int, digests: Sequence[tuple[str, str, int]]) -> None:
        """Write (path, digest, size) of entries of a request that is accepted."""
        ...

    async def last_place(self) -> int:
        """The highest place in line that was given: whoever has it, or one below, was accepted by now."""
        ...

    async def lookups(self, row: int, after: int = -1, limit: int = 1000) -> list[Lookup]:
        """A request's lookups that are not done, by number, from the first above ``after``."""
        ...

    async def save_found(self, row: int, findings_: Sequence[Finding]) -> None:
        """Write what lookups of an accepted request have led to: entries and lookups together.

        Raises ``PathTaken`` where one leads to a path that holds something else; then nothing is written.
        """
        ...

    async def forget_found(self, row: int, number: int) -> None:
        """Let a lookup of an accepted request begin anew: its entries go."""
        ...

    async def places(self, lane: Lane, digests: Sequence[str]) -> dict[str, Place]:
        """Where the lane's project is known to hold these bytes, in the store that counts now."""
        ...

    async def save_places(
        self, row: int, places: Sequence[Packed], pack: tuple[str, int] | None = None
    ) -> None:
        """Write in which packs entries of an accepted request lie; all of it or nothing.

        Args:
            places: ``BULK_ROWS`` (``writer``) at most.
            pack: the name (``<hex>``) and size of a pack that the request makes, all of whose entries are
                among them. None: the store has the packs.
        """
        ...

    async def prepared(
        self,
        row: int,
        manifest: Manifest,
        content: str,
        digests: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        """accepted → prepared.

        Args:
            digests: those that were not kept before, as ``save_digests`` takes them; a few.
        """
        ...

    async def keep_part_sums(self, row: int, digest: str, sums: PartSums) -> None:
        """What the parts of one of a request's files have to be; kept as long as its entries."""
        ...

    # ── transfer ───────────────────────────────────────────────────────────────────────────────
    async def part_sums(self, row: int, digest: str) -> PartSums | None:
        """What was kept of a file's parts."""
        ...

    async def take_upload(self, row: int, lane: Lane, digest: str) -> Upload | None:
        """The upload in parts of a blob, in the store that counts now: the request goes on with it."""
        ...

    async def begin_upload(
        self, row: int, lane: Lane, digest: str, store_id: str, name: str, part_bytes: int
    ) -> Upload:
        """A request has begun an upload in parts, which takes the place of any other of the blob."""
        ...

    async def note_part(self, upload: int, number: int, etag: str) -> None:
        """A part of an upload is in the store."""
        ...

    async def forget_upload(self, upload: int) -> None:
        """An upload is no more. ``note_sent`` forgets those of what was sent."""
        ...

    async def given_up(self, limit: int = 100) -> list[GivenUp]:
        """Uploads that no request goes on with."""
        ...

    async def uploads_at(self, address: str) -> set[str]:
        """Names of all uploads that are kept of a store."""
        ...

    async def sent_already(self, lane: Lane, digests: Sequence[str]) -> set[str]:
        """Which of these the lane's project is known to hold, as objects, in the store that counts now."""
        ...

    async def packs(self, row: int) -> dict[str, int]:
        """The packs that a request makes: their sizes by name (``<hex>``)."""
        ...

    async def plan_again(self, row: int) -> None:
        """prepared → accepted: its manifest points at packs that the store has no longer. Digests stay."""
        ...

    async def note_sent(
        self, lane: Lane, sent: Sequence[Sent], store_id: str | None = None
    ) -> None:
        """Done-records: bytes that are in the store that counts now.

        Args:
            store_id: the store that counted when the bytes were sent; if it does no longer, nothing
                is noted. None: not checked.
        """
        ...

    async def uploaded(
        self,
        row: int,
        store_id: str | None = None,
        since: float | None = None,
        sent: Sequence[Sent] = (),
    ) -> None:
        """prepared → uploaded.

        Args:
            store_id: the store that counted when the upload began; ``WrongState`` if it does no
                longer. None: not checked.
            since: when the upload began, if it has put all that the request names. None: some was there.
            sent: a few bytes to note, as by ``note_sent``, in the same change.
        """
        ...

    # ── commit ─────────────────────────────────────────────────────────────────────────────────
    async def lanes(
        self, after: Lane | None = None, limit: int | None = None, *, upserts: bool = True
    ) -> list[Lane]:
        """Lanes with requests that have a place and are not settled, sorted; the first ``limit`` of those
        that come after one.

        Args:
            upserts: whether they count; they take no number, and no request waits for theirs.
        """
        ...

    async def line(self, lane: Lane, limit: int = 100, *, upserts: bool = True) -> list[Request]:
        """The lane's requests that have a place and have not settled or ended, by place; as ``lanes``."""
        ...

    async def unaliased(self) -> list[Request]:
        """Requests that are settled and not done, but for upserts."""
        ...

    async def known(self, lane: Lane) -> Known:
        """What this home knows of the artifact."""
        ...

    async def learn(self, lane: Lane, known: Known) -> None:
        """Keep the artifact's type and highest number. A lower highest does not replace a higher."""
        ...

    async def store_id(self, address: str) -> str:
        """The id of the store that counts now; "" before the first contact."""
        ...

    async def set_store_id(self, address: str, store_id: str, *, probed: bool) -> None:
        """First contact. Raises ``StoreChanged`` where another store counts: see ``restart_lane``."""
        ...

    async def probed(self, address: str) -> bool:
        """Whether the store that counts now passed the probe."""
        ...

    async def attempt(self, row: int, number: int, record: bytes) -> None:
        """uploaded or sending → sending. Number and bytes, before they are first sent.

        From ``sending`` only a higher number, or the same one with the same bytes.
        """
        ...

    async def done_records(self, lane: Lane, names: Sequence[str]) -> dict[str, DoneRecord]:
        """What is known of these objects of the lane's project, in the store that counts now."""
        ...

    async def forget_sent(self, lane: Lane, names: Sequence[str], store_id: str) -> None:
        """Drop the done-records of objects that a store has lost; what lay in them is lost with them."""
        ...

    async def send_back(self, row: int, error: str, reason: str, *, is_planned: bool) -> None:
        """uploaded → prepared: the store has lost what the request names. Its lane's type is read again.

        Args:
            is_planned: whether its manifest may stay; if it points at packs that are lost, → accepted.
        """
        ...

    async def settle(
        self,
        row: int,
        version: int,
        aliases: Sequence[str] | None = None,
        *,
        is_own: bool = True,
        learned: Known | None = None,
        may_end: bool = False,
    ) -> None:
        """uploaded or sending → settled, as this version.

        Args:
            aliases: those to give instead of its own: the draft's, of a finish.
            is_own: the version's record is this request's, and names its run; else that is noted.
            learned: kept of its lane, as by ``learn``, in the same change.
            may_end: → done, in the same change, where it has no alias to give.
        """
        ...

    # ── changes to a base ──────────────────────────────────────────────────────────────────────
    async def applied(self, row: int, manifest: Manifest, content: str) -> None:
        """uploaded → uploaded: what the request's changes come to, whose manifest is in the store."""
        ...

    async def apply_again(self, row: int) -> None:
        """sending → uploaded: another has the number, so that the record is nowhere, and never will be.

        Only of a request that changes whichever version comes before its own.
        """
        ...

    # ── drafts ─────────────────────────────────────────────────────────────────────────────────
    async def upserts(self, limit: int) -> list[tuple[int, Lane]]:
        """Rows and lanes of upserts that are uploaded and have not ended: those whose parts are not known to
        be put first, by place.
        """
        ...

    async def keep_part(self, row: int, part: bytes) -> None:
        """uploaded → sending, of an upsert: its part's bytes, before they are first sent."""
        ...

    async def part_put(self, row: int) -> None:
        """sending → settled, of an upsert: its part is in the store. Finishes of its draft are told."""
        ...

    async def parts_missing(self, row: int) -> int:
        """How many upserts of a finish's draft that this home accepted before it have not put their parts.

        Those that have ended are passed over.
        """
        ...

    async def gather(self, row: int, lines: Sequence[Gathered]) -> None:
        """Keep what a finish has read of its draft's parts; again the same does no harm."""
        ...

    async def gathered(
        self, row: int, after: tuple[str, int] = ("", -1), limit: int = 1000
    ) -> list[Gathered]:
        """What a finish has gathered, by path and part, from the first above (path, part)."""
        ...

    async def forget_gathered(self, row: int) -> None:
        """Delete what a finish has gathered."""
        ...

    async def keep_sealed(self, row: int, sealed: bytes) -> None:
        """uploaded → sending, of a finish: its ``sealed.json``, before it is first sent."""
        ...

    async def fail_late(self, row: int, error: str, reason: str) -> None:
        """→ failed, though it was sent: an upsert from settled, a finish from uploaded or sending.

        Only when it is known for sure that the draft's version is without it.
        """
        ...

    async def done(self, row: int, given: Sequence[str], error: str = "", reason: str = "") -> None:
        """settled → done. ``given``: the aliases that were given; ``WrongState`` if there are more now.

        ``error`` and ``reason``: why some of them could not be given, and never can.
        """
        ...

    # ── what goes wrong, and what the user says ────────────────────────────────────────────────
    async def wait_until(self, row: int, error: str, reason: str, next_try: float | None) -> None:
        """Why a request waits. No change of state; ("", "", None) when it goes on."""
        ...

    async def fail(self, row: int, error: str, reason: str) -> None:
        """held, accepted, prepared or uploaded → failed."""
        ...

    async def cancel(self, row: int) -> None:
        """held, accepted, prepared or uploaded → cancelled."""
        ...

    async def retry(self, row: int) -> int:
        """failed → accepted, in a new place, which is returned.

        Digests that were made and lookups that are done stay; other lookups begin anew.
        """
        ...

    async def sync(self, rows: Sequence[int]) -> int:
        """held → accepted, in their order; how many."""
        ...

    async def acknowledge(self, rows: Sequence[int]) -> int:
        """Mark failures as seen; how many."""
        ...

    async def stop_lane(self, lane: Lane, reason: str, store_id: str | None = None) -> None:
        """The lane waits until ``restart_lane``.

        Args:
            store_id: the store that counted when the reason was found; if another does by now, the user
                has looked, and nothing is changed. None: not checked.
        """
        ...

    async def stopped(self) -> dict[Lane, str]:
        """Stopped lanes and why."""
        ...

    async def restart_lane(
        self, lane: Lane, store_id: str, highest: int, request: str, there: Sequence[int] = ()
    ) -> None:
        """The user has looked: the store that is there now counts.

        ``store_id`` becomes the address's; the artifact's highest number and its record's request id
        become those that were seen there just now; the project's done-records of that store are
        dropped; requests of the lane forget their floor, and those that were uploaded or sending go
        back to ``prepared``, so that their bytes are looked for again. If another store counted
        before, this concerns the requests of all lanes at the address.

        Args:
            there: rows of upserts and finishes that stay as they are, since that store has what they sent.
        """
        ...

    # ── runs ───────────────────────────────────────────────────────────────────────────────────
    async def note_run(self, notes: Sequence[Note], *, held: bool = False) -> None:
        """Note what a run does; what is noted already is not noted again.

        Args:
            held: by offline mode, until ``release_runs``.
        """
        ...

    async def release_runs(self, run_ids: Sequence[str] | None) -> None:
        """Let go what offline mode holds of these runs; None: of all."""
        ...

    async def run_places(self) -> list[tuple[str, str]]:
        """Addresses, and projects below which something is to be written of runs."""
        ...

    async def open_notes(self, address: str, place: str, limit: int) -> list[tuple[int, Note]]:
        """What is noted of runs, not held, and in no record yet, with its number; in order."""
        ...

    async def keep_run_record(self, place: RunPlace, body: bytes, numbers: Sequence[int]) -> int:
        """Keep a record's bytes, and that the notes of these numbers are in it; the record's number."""
        ...

    async def run_records(self, address: str, place: str, limit: int) -> list[KeptRecord]:
        """Records of runs that were kept, and not seen in their store yet."""
        ...

    async def run_record_put(self, number: int) -> None:
        """A run's record is in the store, or nobody wants it there any more."""
        ...

    async def run_record_again(self, number: int) -> int:
        """Give a record another number: a copy of this home has used it."""
        ...

    async def drop_runs(self, address: str | None = None, place: str | None = None) -> None:
        """Forget what is to be written of runs, also what is held: below an address, or all."""
        ...

    async def runs_waiting(self) -> tuple[int, int]:
        """How many runs have something noted that is not in their store yet; and how many are held."""
        ...

    async def is_run_open(self, address: str, project: str, run_id: str) -> bool:
        """Whether something that is noted of a run, and not held, is not in its own project yet."""
        ...

    # ── upkeep ─────────────────────────────────────────────────────────────────────────────────
    async def forget_ended(self, before: float) -> int:
        """Delete requests that ended before: done, cancelled, failed and acknowledged; how many."""
        ...

    async def unfreed(self, limit: int = 100) -> list[Request]:
        """Requests that are done or cancelled, and whose part of the spool is not known to be free."""
        ...

    async def going_on(self, rows: Sequence[int]) -> set[int]:
        """Those of the rows whose requests have not ended. A failed one has: a retry begins anew."""
        ...

    async def drop_entries(self, row: int) -> None:
        """Delete the entries of a request that is done or cancelled; a failed one keeps them."""
        ...

    async def note_freed(self, row: int) -> None:
        """The request's files in the spool are gone: neither ``unfreed`` nor ``spooled`` has them."""
        ...

    async def take_off(self, row: int, left: Room) -> None:
        """So much of the request's part of the spool is about to go, before all of it does."""
        ...

    async def take_off_folders(self, folders: Sequence[str]) -> None:
        """These folders of failed requests are about to go: their failures were acknowledged."""
        ...

    async def unsynced(self, limit: int = 100) -> list[Request]:
        """Requests not ended, or failed, whose captured bytes are not known to survive a power loss."""
        ...

    async def note_synced(self, rows: Sequence[int]) -> None:
        """The requests' captured bytes are synced to the disk."""
        ...

    async def distrust(self, row: int, paths: Sequence[str]) -> None:
        """What stands in the files of these entries is not what was captured, whatever it looks like.

        Whoever reads one later finds it changed. Entries whose digest is known stay: it tells.
        """
        ...

    async def home_id(self) -> str:
        """Names this home in run records; random, made at the first call."""
        ...

    async def boot(self) -> str:
        """The id of the machine's boot that ``note_boot`` noted last; "" at first."""
        ...

    async def note_boot(self, boot: str) -> None:
        """Note the machine's boot; whatever an earlier one left unsynced has been checked."""
        ...

    async def aclose(self) -> None:
        """Finish the writes under way and close."""
        ...
