"""Which resolver a URI has.

Owns: the table from scheme to resolver, further ones from the entry points ``wherry.references``. Does
not own: what a resolver does.

An entry point's name is a scheme, its value a function that takes the daemon's ``Clock`` and returns a
``base.Resolver`` (docs/references.md has an example). It is called at the first URI of its scheme, in the
loop; what takes long to import is imported before, in a worker thread. The entry points are looked for when
a URI comes whose scheme is none of Wherry's: to look costs a tenth of a daemon's start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from anyio import to_thread

from wherry.errors import ReferenceFailed
from wherry.wire.secrets import masked
from wherryd.clock import Clock
from wherryd.log import get_logger
from wherryd.references.base import Resolver

GROUP = "wherry.references"
Make = Callable[[Clock], Resolver]

_log = get_logger("references")


class Resolvers:
    """All resolvers of a daemon.

    Args:
        makers: how to make each, by scheme.
        modules: what is to be imported before one is made, by scheme.
        find_others: finds further makers, by scheme; asked once, in a worker thread. None replaces
            one that is there.
    """

    def __init__(
        self,
        clock: Clock,
        makers: Mapping[str, Make],
        modules: Mapping[str, str] | None = None,
        find_others: Callable[[], Mapping[str, Make]] = dict,
    ) -> None:
        self._clock = clock
        self._makers = dict(makers)
        self._modules = dict(modules or {})
        self._find_others: Callable[[], Mapping[str, Make]] | None = find_others
        self._made: dict[Make, Resolver] = {}

    async def schemes(self) -> list[str]:
        """The schemes that have a resolver."""
        await self._look_for_others()
        return sorted(self._makers)

    async def of(self, uri: str) -> Resolver:
        """The resolver of a URI. Raises ``ReferenceFailed`` where its scheme has none."""
        scheme = uri.partition("://")[0].lower()
        if scheme not in self._makers:
            await self._look_for_others()
        make = self._makers.get(scheme)
        if make is None:
            raise ReferenceFailed(
                f"nobody here knows how to resolve {masked(uri)}: "
                f"the schemes are {', '.join(['file', *sorted(self._makers)])}",
                hint="Install what resolves it beside the daemon, then: wherry retry --all",
            )
        if scheme in self._modules:
            await to_thread.run_sync(import_module, self._modules[scheme])
            self._modules.pop(scheme, None)
        if make not in self._made:
            self._made[make] = make(self._clock)
        return self._made[make]

    async def _look_for_others(self) -> None:
        if self._find_others is not None:
            found = await to_thread.run_sync(self._find_others)
            self._find_others = None
            self._makers = {**found, **self._makers}

    async def aclose(self) -> None:
        """Close all."""
        made, self._made = self._made, {}
        for resolver in made.values():
            await resolver.aclose()


def installed() -> dict[str, Make]:
    """Find the makers that other packages bring. Blocks."""
    from importlib.metadata import entry_points

    found: dict[str, Make] = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name.lower()] = point.load()
        except Exception as error:  # noqa: BLE001 - somebody else's package: the others must work
            _log.warning("a resolver can't be loaded", scheme=point.name, error=str(error))
    return found
