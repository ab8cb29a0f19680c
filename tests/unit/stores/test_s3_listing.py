"""The order of keys, on servers that list by whole keys and on those that walk folders."""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

from hypothesis import example, given
from hypothesis import strategies as st

from wherryd.stores.s3.answers import Answer, Call
from wherryd.stores.s3.listing import Listing

Order = Callable[[str, bool], bytes]


def _by_key(name: str, is_folder: bool) -> bytes:
    """As AWS: a common prefix stands where its string does."""
    return f"{name}/".encode() if is_folder else name.encode()


def _by_name(name: str, is_folder: bool) -> bytes:  # that is the difference
    """As SeaweedFS: a folder stands where its name does."""
    return name.encode()


class _Bucket:
    """Answers ListObjectsV2, in pages, in one order or the other."""

    def __init__(self, keys: set[str], order: Order) -> None:
        self._keys = keys
        self._order = order
        self.requests = 0

    @property
    def prefix(self) -> str:
        return "root/"

    async def send(self, call: Call) -> Answer:
        self.requests += 1
        prefix = call.query["prefix"].removeprefix("root/")
        after = call.query.get("start-after", "").removeprefix("root/")
        if "delimiter" in call.query:
            rows = sorted(self._rows(prefix), key=lambda row: self._order(*row))
        else:
            rows = [(key.removeprefix(prefix), False) for key in self._in_order(prefix)]
        if after.startswith(prefix):
            rows = [row for row in rows if self._is_after(row, after.removeprefix(prefix))]
        start, size = int(call.query.get("continuation-token", 0)), int(call.query["max-keys"])
        return self._page(prefix, rows[start : start + size], start + size, len(rows))

    def _in_order(self, prefix: str) -> list[str]:
        """Whole keys: by their bytes, or folder by folder."""
        is_by_key = self._order is _by_key
        found = [key for key in self._keys if key.startswith(prefix)]
        return sorted(found, key=lambda key: [key] if is_by_key else key.split("/"))

    def _rows(self, prefix: str) -> set[tuple[str, bool]]:
        rest = (key.removeprefix(prefix) for key in self._keys if key.startswith(prefix))
        return {(name.partition("/")[0], "/" in name) for name in rest}

    def _is_after(self, row: tuple[str, bool], after: str) -> bool:
        name, is_folder = row
        if self._order is _by_key and is_folder:
            return f"{name}/".encode() > after.encode() or after.startswith(f"{name}/")
        return self._order(name, is_folder) > after.encode()

    def _page(self, prefix: str, rows: list[tuple[str, bool]], end: int, count: int) -> Answer:
        parts = [
            f"<CommonPrefixes><Prefix>{escape(f'root/{prefix}{name}/')}</Prefix></CommonPrefixes>"
            if is_folder
            else f"<Contents><Key>{escape(f'root/{prefix}{name}')}</Key><Size>1</Size><ETag>e</ETag>"
            f"<LastModified>2026-11-23T18:28:48.000Z</LastModified></Contents>"
            for name, is_folder in rows
        ]
        more = f"<IsTruncated>{str(end < count).lower()}</IsTruncated>"
        token = f"<NextContinuationToken>{end}</NextContinuationToken>"
        marker = f"<Contents><Key>{escape('root/' + prefix)}</Key><Size>0</Size><LastModified>2026-11-23T18:28:48Z</LastModified></Contents>"
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        page = f"{marker}{''.join(parts)}{more}{token}"
        body = f'<ListBucketResult xmlns="{namespace}">{page}</ListBucketResult>'
        return Answer(status=200, headers={}, body=body.encode())


SEGMENT = st.text(alphabet="ab01-. %~é", min_size=1, max_size=4)
KEY = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)


@given(
    keys=st.sets(KEY, max_size=15),
    start=st.just("") | KEY,
    page=st.integers(1, 5),
    order=st.sampled_from([_by_key, _by_name]),
)
@example(keys={"a/x", "a-b", "a.b"}, start="", page=1, order=_by_name)
@example(keys={"a/x", "a-b", "a.b"}, start="a-b", page=1, order=_by_name)
@example(keys={"v1/x", "v1.json", "v2.json"}, start="v1.json", page=1, order=_by_name)
async def test_keys_are_listed_out_of_order(
    keys: set[str], start: str, page: int, order: Order
) -> None:
    """Both kinds of server give the same listing: whole keys, by their bytes, after the start."""
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    listing = Listing(_Bucket(keys, order), page)  # type: ignore[arg-type]
    wanted = sorted((key for key in keys if key.encode() > start.encode()), key=str.encode)
    assert [stat.key async for stat in listing.walk("", start)] == wanted


@given(names=st.sets(SEGMENT, max_size=15), page=st.integers(1, 5))
async def test_folders_are_listed_out_of_order(names: set[str], page: int) -> None:
    """Both kinds of server give folders in the order of the keys below them."""
    keys = {f"p/{name}/x" for name in names}
    for order in (_by_key, _by_name):
        listing = Listing(_Bucket(keys, order), page)  # type: ignore[arg-type]
        found = [item.name async for item in listing.level("p/")]
        assert found == sorted(names, key=lambda name: f"{name}/".encode())


async def test_a_flat_folder_costs_more_than_its_pages() -> None:
    """Where there are no folders below the prefix, a listing is one request a page."""
    keys = {f"versions/v{number:08d}.json" for number in range(40)}
    bucket = _Bucket(keys, _by_key)
    listing = Listing(bucket, 10)  # type: ignore[arg-type]
    assert len([stat async for stat in listing.walk("versions/", "")]) == 40
    assert bucket.requests == 4
    bucket.requests = 0
    later = [stat async for stat in listing.walk("versions/", "versions/v00000037.json")]
    assert [stat.key for stat in later] == ["versions/v00000038.json", "versions/v00000039.json"]
    assert bucket.requests == 1


@given(keys=st.sets(KEY, max_size=15), page=st.integers(1, 5))
async def test_a_scan_asks_for_each_folder(keys: set[str], page: int) -> None:
    """Without an order, both kinds of server are asked for their pages, however many folders there are."""
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    for order in (_by_key, _by_name):
        bucket = _Bucket(keys, order)
        found = [stat.key async for stat in Listing(bucket, page).scan("")]  # type: ignore[arg-type]
        assert sorted(found) == sorted(keys)
        assert bucket.requests == max(1, -(-len(keys) // page))
