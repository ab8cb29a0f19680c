"""A run's configuration. Owns: a dict whose keys are attributes too. It is recorded nowhere yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from wherry import active
from wherry.errors import UsageError


class Config(MutableMapping[str, Any]):
    """What a program was run with: ``config.lr`` and ``config["lr"]``."""

    def __init__(self, values: object = None) -> None:
        self.__dict__["_values"] = _as_dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._dict()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._dict()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict())

    def __len__(self) -> int:
        return len(self._dict())

    def __repr__(self) -> str:
        return repr(self._dict())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._dict()[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._dict()[name] = value

    def update(  # type: ignore[override] # W&B's keyword, and argparse's namespaces
        self, values: object = None, allow_val_change: bool | None = None, **more: Any
    ) -> None:
        """Take over values from a mapping, a namespace, or keywords."""
        del allow_val_change
        self._dict().update({**_as_dict(values), **more})

    def setdefaults(self, values: object) -> None:
        """Take over the values whose keys are not there yet."""
        for key, value in _as_dict(values).items():
            self._dict().setdefault(key, value)

    def as_dict(self) -> dict[str, Any]:
        """Give a copy."""
        return dict(self._dict())

    def _dict(self) -> dict[str, Any]:
        values: dict[str, Any] = self.__dict__["_values"]
        return values


class CurrentConfig(Config):
    """``wherry.config``: the current run's."""

    def __repr__(self) -> str:
        return repr(self._dict()) if active.current() else "<config of no run>"

    def _dict(self) -> dict[str, Any]:
        values: dict[str, Any] = vars(active.needed("config").config)["_values"]
        return values


def _as_dict(values: object) -> dict[str, Any]:
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {str(key): value for key, value in values.items()}
    if hasattr(values, "__dict__"):  # argparse.Namespace and the like
        return dict(vars(values))
    raise UsageError(
        f"The config is a {type(values).__name__}.", hint="Use a dict or an argparse.Namespace."
    )


config = CurrentConfig()
