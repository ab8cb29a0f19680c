"""From a set of credentials to the keys that sign.

Owns: asking botocore (profiles, files, roles, the machine's metadata), keeping the answer until it expires or
is refused. Does not own: which set is tried when (``stores.credentials``, ``sender``).

botocore reads files and asks the network as it goes, so it runs in a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import anyio
import msgspec
from anyio import to_thread
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import (
    AssumeRoleWithWebIdentityProvider,
    ContainerProvider,
    Credentials,
    RefreshableCredentials,
)
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from wherryd.clock import Clock
from wherryd.stores.credentials import ANONYMOUS, CredentialSet

_RESOLVE_S = 20
#: Asking for new keys, or again where there were none, happens at most this often.
_AGAIN_S = 5
_VARIABLES = {
    "AWS_DEFAULT_PROFILE": "profile",
    "AWS_PROFILE": "profile",
    "AWS_CONFIG_FILE": "config_file",
    "AWS_SHARED_CREDENTIALS_FILE": "credentials_file",
}

#: A client's profile, files and region: what the daemon's own environment says of them is another user's.
_OF_A_CLIENT = {
    "profile": (None, None, None, None),
    "region": ("region", None, None, None),
    "config_file": (None, None, "~/.aws/config", None),
    "credentials_file": (None, None, "~/.aws/credentials", None),
}
_ROLE = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "web_identity_token_file",
    "AWS_ROLE_ARN": "role_arn",
    "AWS_ROLE_SESSION_NAME": "role_session_name",
}


class Keys(msgspec.Struct, frozen=True):
    """What signs a request."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "<keys>"


UNSIGNED = Keys("", "")
"""Of requests that bear no signature."""


class Surroundings(msgspec.Struct, frozen=True):
    """What a user's AWS configuration says beside credentials."""

    region: str | None = None
    endpoint_url: str | None = None
    addressing: str | None = None  # "path" or "virtual"


class Identity:
    """The keys of one set of credentials.

    Args:
        credentials: the set.
        clock: tells how long ago botocore was asked.
    """

    def __init__(self, credentials: CredentialSet, clock: Clock) -> None:
        self.credentials = credentials
        self._clock = clock
        self._asking = anyio.Lock()
        self._asked: float | None = None
        self._found: Credentials | None = None
        self._keys: Keys | None = None
        self.why_none = "there are none"

    async def keys(self) -> Keys | None:
        """The keys; None where the set leads to none, or not within 20 s."""
        if self.credentials == ANONYMOUS:
            return UNSIGNED
        if not self._is_good():
            async with self._asking:
                if not self._is_good():
                    await self._ask(self._found)
        return self._keys

    async def other_keys(self, refused: Keys) -> Keys | None:
        """Keys found anew, since the store refused these; None where there are no others."""
        async with self._asking:
            if self._keys == refused and self._may_ask():
                await self._ask(None)
            return self._keys if self._keys != refused else None

    def _is_good(self) -> bool:
        found = self._found
        is_old = isinstance(found, RefreshableCredentials) and found.refresh_needed()
        return (self._keys is not None and not is_old) or not self._may_ask()

    def _may_ask(self) -> bool:
        return self._asked is None or self._clock.monotonic() - self._asked >= _AGAIN_S

    async def _ask(self, found: Credentials | None) -> None:
        """Refresh what was found, or find anew; what was there stays where nothing comes of it."""
        self._asked = self._clock.monotonic()
        try:
            with anyio.fail_after(_RESOLVE_S):
                answer = await to_thread.run_sync(
                    _resolve, self.credentials, found, abandon_on_cancel=True
                )
        except (BotoCoreError, ClientError, OSError, ValueError) as exc:
            # not what it says: a helper program's error may hold anything
            self.why_none = f"looking for them ended with {type(exc).__name__}"
            return
        if answer:
            self._found, self._keys = answer


async def surroundings(credentials: CredentialSet) -> Surroundings:
    """Read region, endpoint and addressing style from a set's profile and files."""
    return await to_thread.run_sync(_surroundings, credentials)


def _resolve(
    credentials: CredentialSet, found: Credentials | None
) -> tuple[Credentials, Keys] | None:
    found = found or _find(credentials)
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    if not frozen.access_key or not frozen.secret_key:
        return None
    return found, Keys(frozen.access_key, frozen.secret_key, frozen.token)


def _find(credentials: CredentialSet) -> Credentials | None:
    """Follow the order of botocore's own chain, in the client's environment instead of ours."""
    values, session = credentials.values, _session(credentials)
    if values is None:
        return session.get_credentials()
    if "AWS_ACCESS_KEY_ID" in values:
        return Credentials(
            values["AWS_ACCESS_KEY_ID"],
            values.get("AWS_SECRET_ACCESS_KEY", ""),
            values.get("AWS_SESSION_TOKEN"),
        )
    found = _web_identity(values, session)
    if found is None and values.keys() & _VARIABLES.keys():
        found = session.get_credentials()
    return found or ContainerProvider(environ=values).load()


def _web_identity(values: Mapping[str, str], session: Session) -> Credentials | None:
    profile = {name: values[variable] for variable, name in _ROLE.items() if variable in values}
    region = (
        _region(session) or _region(Session()) or "us-east-1"
    )  # AWS's partition is one machine's
    return AssumeRoleWithWebIdentityProvider(
        load_config=lambda: {"profiles": {"client": profile}},
        client_creator=partial(session.create_client, region_name=region),
        profile_name="client",
        disable_env_vars=True,
    ).load()


def _session(credentials: CredentialSet) -> Session:
    values = credentials.values
    if values is None:
        return Session()
    session = Session(session_vars=_OF_A_CLIENT)
    if values.keys() & _VARIABLES.keys():
        # Where a profile is named, botocore leaves the daemon's own keys out.
        session.set_config_variable("profile", "default")
    for variable, name in _VARIABLES.items():
        if variable in values:
            session.set_config_variable(name, values[variable])
    return session


def _surroundings(credentials: CredentialSet) -> Surroundings:
    session = _session(credentials)
    try:
        profile = session.get_scoped_config()
        endpoint = ConfiguredEndpointProvider(
            full_config=session.full_config,
            scoped_config=profile,
            client_name="s3",
            environ={},  # a client's variables are in the address, and ours are not the client's
        ).provide()
        return Surroundings(_region(session), endpoint, _addressing(profile.get("s3")))
    except BotoCoreError:
        return Surroundings()


def _region(session: Session) -> str | None:
    region = session.get_config_variable("region")
    return region if isinstance(region, str) else None


def _addressing(s3: object) -> str | None:
    """The style that a profile's section ``s3 =`` asks for; "auto" leaves it to us."""
    style = s3.get("addressing_style") if isinstance(s3, dict) else None
    return style if style in ("path", "virtual") else None
