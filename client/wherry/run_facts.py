"""What a run is. Owns: its facts under W&B's names. Does not own: what it does (``runs``)."""

from __future__ import annotations

import os
from typing import NamedTuple

from wherry.run_config import Config
from wherry.wire.settings import Settings


class Given(NamedTuple):
    """What ``init`` was told beside the settings."""

    id: str
    entity: str | None
    name: str | None
    notes: str | None
    tags: tuple[str, ...]
    dir: str


class RunFacts:
    """The part of ``Run`` that only tells."""

    def __init__(self, settings: Settings, given: Given, config: object) -> None:
        self.settings = settings
        self.config = Config(config)
        self.summary: dict[str, object] = {}
        self.pid = os.getpid()
        self._given = given

    @property
    def id(self) -> str:
        """The run's id."""
        return self._given.id

    @property
    def name(self) -> str:
        """The name that was given, else the id."""
        return self._given.name or self._given.id

    @property
    def project(self) -> str:
        """The project."""
        return self.settings.project

    @property
    def entity(self) -> str | None:
        """The entity that was given; stands in records, and is otherwise ignored."""
        return self._given.entity

    @property
    def group(self) -> str | None:
        """The group of runs that work together."""
        return self.settings.run_group

    @property
    def job_type(self) -> str | None:
        """What kind of work the run does."""
        return self.settings.job_type

    @property
    def notes(self) -> str | None:
        """The notes that were given."""
        return self._given.notes

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that were given."""
        return self._given.tags

    @property
    def dir(self) -> str:
        """The folder that was given; the working folder by default."""
        return self._given.dir

    @property
    def path(self) -> str:
        """``entity/project/id``, without an entity where none was given."""
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    @property
    def mode(self) -> str:
        """``online``, ``offline`` or ``disabled``."""
        return self.settings.mode

    @property
    def disabled(self) -> bool:
        """Whether the run does nothing."""
        return self.settings.mode == "disabled"

    @property
    def offline(self) -> bool:
        """Whether requests are held until ``wherry sync``."""
        return self.settings.mode == "offline"

    @property
    def url(self) -> None:
        """None: there is no web page."""
