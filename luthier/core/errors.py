"""The one error tree. What a user did wrong, what is missing, what broke; knows no HTTP.

    LuthierError
    ├── InvalidRequest        the request is wrong: what, where (`param`), how to mend it
    ├── Unauthenticated       no key, or a wrong one
    ├── Forbidden             the key is good and may not do this
    ├── NotFound              no such object in this project
    ├── Conflict              the object's state does not allow it
    ├── TooLarge              over a limit of size
    ├── RateLimited           over a limit of rate; `retry_after_s` says when to come back
    ├── Unavailable           cannot be served now: engine down, missing extra
    │   └── StoreAway         database or files do not answer, or have no room: what was begun is tried again
    └── JobFailed             why a job ends as `failed`: becomes the job's `error` object

`api/errors.py` gives each its status; `JobFailed` never reaches the wire as a response.
"""

from __future__ import annotations


class LuthierError(Exception):
    """An error with words for its user. `code` and `param` are OpenAI's, where it has one."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class InvalidRequest(LuthierError):
    """The request cannot be honoured as it stands."""


class Unauthenticated(LuthierError):
    """No valid API key came with the request."""


class Forbidden(LuthierError):
    """The key is valid but lacks the scope."""


class NotFound(LuthierError):
    """No such object, as far as this project can see."""


class Conflict(LuthierError):
    """The object's present state does not allow the operation."""


class TooLarge(LuthierError):
    """A body, file or part is over its limit."""


class RateLimited(LuthierError):
    """Too many requests; come back after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: float, code: str | None = "rate_limit_exceeded") -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(LuthierError):
    """The machine cannot do this now; the message says what would mend it."""


class StoreAway(Unavailable):
    """The database or the files do not answer, or the disk has no room; nothing was changed."""


class JobFailed(LuthierError):
    """A job's final error: `code`, `message` and `param` go to the job object and its last event."""
