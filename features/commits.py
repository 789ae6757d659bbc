"""Commits to the lake beside other writers: a change that lost against another one is made again."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from py4j.protocol import Py4JJavaError

from streaming.errors import FlywheelError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.2
# What Iceberg says of a change whose base is gone: files were compacted or deleted meanwhile, or its own retries of the
# commit ran out; nothing was committed then. Of the last it does not know whether the catalogue took the commit.
# https://iceberg.apache.org/docs/latest/reliability
_CONFLICTS = (
    "org.apache.iceberg.exceptions.ValidationException",
    "org.apache.iceberg.exceptions.CommitFailedException",
    "org.apache.iceberg.exceptions.CommitStateUnknownException",
)
# What Hadoop says when a file of a local disk went away between being listed and being looked at.
_WENT_AWAY = "Error while running command to get file permissions"


class LakeBusy(FlywheelError):
    """A change to the lake lost against another one time after time."""


def retried(change: Callable[[], T], pause: Callable[[float], None] = time.sleep) -> T:
    """Return what `change` returns, made again from the newest snapshot when another commit came in between.

    `change` must be one that may be made twice. Raises LakeBusy when it loses every time, Py4JJavaError when it fails
    otherwise.
    """
    lost: Py4JJavaError | None = None
    for attempt in range(_ATTEMPTS):
        if lost is not None:
            _log.info("a commit to the lake lost against another one and is made again")
            pause(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            return change()
        except Py4JJavaError as error:
            if not _is_conflict(error):
                raise
            lost = error
    raise LakeBusy("other changes to the lake came in between every time: do it again when less is going on") from lost


def _is_conflict(error: Py4JJavaError) -> bool:
    cause = error.java_exception
    while cause is not None:
        if cause.getClass().getName() in _CONFLICTS or _WENT_AWAY in str(cause.getMessage()):
            return True
        cause = cause.getCause()
    return False
