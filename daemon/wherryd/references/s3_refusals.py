"""What an S3 server's refusal means for a reference.

Owns: which are final, and which are mended by time or other credentials. Does not own: sending
(``stores.s3``). Source: Amazon S3 API Reference, "Error Responses".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from wherry.errors import (
    AccessRefused,
    ReferenceFailed,
    ReferenceUnavailable,
    StoreUnavailable,
    WherryError,
)
from wherryd.references.answers import refusal
from wherryd.references.s3_pages import NoListing
from wherryd.references.session import is_unknown_name
from wherryd.stores.s3.answers import Answer

#: Refusals of keys, whatever is asked for with them.
_BAD_KEYS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
#: Answers below 500 after which the same question may be answered otherwise soon.
_PASSING = {"RequestTimeout", "SlowDown", "OperationAborted"}
_MISSING = {"NoSuchKey", "NoSuchVersion", "MethodNotAllowed"}  # the last: a delete marker
_CREDENTIALS = (
    "Give it good ones as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE in the environment of "
    "any program that uses Wherry, or of `wherry status`: they are handed to the daemon."
)


class Asked:
    """About what a server was asked.

    Args:
        uri: as users know it.
        host: likewise.
    """

    def __init__(self, uri: str, host: str) -> None:
        self.uri = uri
        self.host = host

    def refusal(self, answer: Answer, now: float) -> WherryError:
        """The error for an answer that is not good. ``now``: seconds since 1970."""
        said = f"{answer.status} {answer.code}".strip()
        if answer.code == "NoSuchBucket":
            return ReferenceFailed(
                f"the bucket of {self.uri} is not there",
                hint="Look whether its name is right, and endpoint_url, where it is not on AWS.",
            )
        if answer.code in _MISSING:
            return self.missing()
        if answer.code in _PASSING or (answer.status == 404 and not answer.code):
            return self.unavailable(f"{self.host} answers {said} for {self.uri}")
        if answer.status in (301, 302, 307, 308):
            return ReferenceFailed(
                f"the bucket of {self.uri} is elsewhere: {self.host} answers {said}",
                hint="Name its region: ?region=…",
            )
        if answer.code and answer.status < 500 and answer.status != 429:
            return ReferenceFailed(
                f"{self.host} answers {said} for {self.uri}: {answer.message or 'it says no more'}"
            )
        return refusal(self.uri, self.host, answer.status, answer.headers, now)

    def refused(self, error: AccessRefused) -> WherryError:
        """The error where no credentials would do.

        It is final where good ones were refused; else others may come.
        """
        good = [code for code in error.codes if code is not None and code not in _BAD_KEYS]
        if good:
            return ReferenceFailed(
                f"{self.host} refuses {self.uri}: {good[0] or 'it does not say why'}",
                hint="Whoever logs it must be allowed to read it (s3:GetObject), and to list the bucket "
                "(s3:ListBucket) for a prefix; then: wherry retry --all",
            )
        bad = sorted({code for code in error.codes if code})
        why = f"refuses the credentials for {self.uri}: {', '.join(bad)}"
        if not bad:
            why = f"wants credentials for {self.uri}, and there are none"
        return self.unavailable(f"{self.host} {why}", hint=_CREDENTIALS)

    def missing(self) -> ReferenceFailed:
        """The error for an object, or its version, that is not there."""
        return ReferenceFailed(
            f"{self.uri} is not there", hint="Look whether key and version are right."
        )

    def is_no_server(self, what: str) -> ReferenceUnavailable:
        """The error for something that answers in an S3 server's stead."""
        return self.unavailable(
            f"what answers for {self.uri} is no S3 server: {what}",
            hint="Look whether the endpoint is the right one, and whether its server is up.",
        )

    def unavailable(self, text: str, hint: str | None = None) -> ReferenceUnavailable:
        """The error for what time may mend."""
        return ReferenceUnavailable(text, hint=hint, host=self.host)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Make errors of ``stores`` those of a reference."""
        try:
            yield
        except AccessRefused as error:
            raise self.refused(error) from error
        except NoListing as error:
            raise self.is_no_server(f"{error} is no listing") from error
        except StoreUnavailable as error:
            raise self._no_answer(error) from error
        except ValueError as error:
            raise ReferenceFailed(f"{self.uri} leads nowhere: {error}") from error

    def _no_answer(self, error: StoreUnavailable) -> WherryError:
        cause = error.__cause__
        if isinstance(cause, aiohttp.ClientSSLError):
            return ReferenceFailed(
                f"{cause.host} can't prove that it is the host of {self.uri}",
                hint="AWS_CA_BUNDLE names the certificates to trust, in the daemon's environment.",
            )
        if isinstance(cause, aiohttp.ClientConnectorError) and is_unknown_name(cause):
            return ReferenceUnavailable(
                f"{cause.host} is no host's name, which {self.uri} needs",
                host=self.host,
                unknown_name=True,
            )
        return self.unavailable(f"{self.host} gives no answer for {self.uri}: {error.message}")
