"""Which resolver a URI has."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from tests.support.resolving import FakeResolver
from tests.unit.daemon.bench import HandClock
from wherry.errors import ReferenceFailed
from wherryd.references import builtin
from wherryd.references.table import Make, Resolvers
from wherryd.stores.credentials import CredentialSets


async def test_import_blocks_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a resolver needs is imported in a worker thread; the resolver is made once, in the loop."""
    told = "import threading\nwhere = threading.current_thread()\n"
    (tmp_path / "slow_library.py").write_text(told)
    monkeypatch.syspath_prepend(tmp_path)
    made: list[threading.Thread] = []

    def make(_: object) -> FakeResolver:
        made.append(threading.current_thread())
        return FakeResolver()

    resolvers = Resolvers(HandClock(), {"slow": make}, {"slow": "slow_library"})
    assert await resolvers.of("slow://a") is await resolvers.of("SLOW://b")
    assert sys.modules["slow_library"].where is not threading.current_thread()
    assert made == [threading.current_thread()]


async def test_own_scheme_is_imported_in_the_loop() -> None:
    """Each of Wherry's own schemes names the module that it is imported from."""
    resolvers = builtin.open_resolvers(HandClock(), CredentialSets())
    for scheme in ("http", "https", "s3", "gs"):
        made = await resolvers.of(f"{scheme}://bucket/x")
        assert type(made).__module__ == builtin._MODULES[scheme]
    await resolvers.aclose()


async def test_unknown_scheme_is_passed_over() -> None:
    """A scheme that nobody resolves is named, with those that there are, and without secrets."""
    resolvers = Resolvers(HandClock(), {"a": lambda _: FakeResolver()})
    with pytest.raises(ReferenceFailed, match=r"ftp://\*\*\*@h/x: the schemes are file, a"):
        await resolvers.of("ftp://me:secret@h/x")


async def test_others_are_looked_for_at_each_start() -> None:
    """What other packages bring is looked for once, when a scheme is not Wherry's, and replaces nothing."""
    looked: list[threading.Thread] = []
    other = FakeResolver()

    def find() -> dict[str, Make]:
        looked.append(threading.current_thread())
        return {"other": lambda _: other, "a": lambda _: other}

    resolvers = Resolvers(HandClock(), {"a": lambda _: FakeResolver()}, find_others=find)
    assert await resolvers.of("a://x") is not other
    assert not looked
    assert await resolvers.of("other://x") is other
    assert await resolvers.of("a://x") is not other
    assert await resolvers.schemes() == ["a", "other"]
    assert len(looked) == 1
    assert looked[0] is not threading.current_thread()
