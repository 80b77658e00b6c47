"""What is true of every place that keeps files: how it is named, what it lists, and what its failures mean."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from eventing.errors import RetryLater

SETTING = "HEADRACE_STORE"
AWAY_S = 5.0  # a bucket that was away is asked again after this time
FULL_S = 60.0  # room is made by a person, not by time
CLOCKS_APART = "RequestTimeTooSkewed"  # S3's word for a signature more than a quarter of an hour off


def listed(paths: Iterator[str]) -> tuple[str, ...]:
    """The paths, sorted, without those that a dot hides: what is not whole yet."""
    return tuple(sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/"))))


@contextmanager
def reachable(place: object, what: str = "the store") -> Iterator[None]:
    """Failures of the place, which is `what`, as RetryLater; absence and every fault of ours escape as they are."""
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as e:
        said = getattr(e.__cause__, "response", None) or {}
        if (said.get("Error") or {}).get("Code") == CLOCKS_APART:
            why = (
                f"this machine's clock, {datetime.now(UTC):%F %T} UTC, is too far from the store's ({e.strerror or e})"
            )
        else:
            why = f"its keys or rights do not suffice ({e.strerror or e})"
        raise RetryLater(f"{what} {place} cannot be reached: {why}", after_s=AWAY_S) from e
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "has no room left" if full else f"cannot be reached ({e.strerror or e})"
        raise RetryLater(f"{what} {place} {why}", after_s=FULL_S if full else AWAY_S) from e
