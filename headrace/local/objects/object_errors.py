"""What the Kubernetes API answers when it refuses; each carries the code and reason of its Status object.

    ObjectError
    ├── NotFound         404
    ├── AlreadyExists    409
    ├── Conflict         409   read again, try again
    ├── Expired          410   a watch from too long ago: list again
    └── Invalid          422   the message names every fault

Raised by `headrace.local.objects.objects` (from where others import them) and by the API above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventing.errors import HeadraceError


class ObjectError(HeadraceError):
    """A request that the API refuses, with what the Kubernetes Status object says of it.

    causes: each fault as a StatusCause (reason, message, field); kubectl prints them one by one.
    """

    def __init__(self, status_code: int, reason: str, message: str, causes: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)
        self.status_code = status_code
        self.reason = reason
        self.message = message


class NotFound(ObjectError):
    """There is no such object."""

    def __init__(self, message: str) -> None:
        super().__init__(404, "NotFound", message)


class AlreadyExists(ObjectError):
    """The name is taken."""

    def __init__(self, message: str) -> None:
        super().__init__(409, "AlreadyExists", message)


class Conflict(ObjectError):
    """The object changed since it was read: read it again, and try again."""

    def __init__(self, message: str, causes: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(409, "Conflict", message, causes)


class Expired(ObjectError):
    """A watch asks for changes older than those kept: list again, and watch from there."""

    def __init__(self, message: str) -> None:
        super().__init__(410, "Expired", message)


class Invalid(ObjectError):
    """The object, of this name, breaks its kind's rules; the message names every fault."""

    def __init__(self, message: str, causes: Sequence[Mapping[str, str]] = (), name: str = "") -> None:
        super().__init__(422, "Invalid", message, causes)
        self.name = name
