"""Files in a bucket, or at any place that fsspec reaches: what `eventing.files` opens for every URL but `file://`.

One object appears whole or not at all: every bucket's PUT promises that, and a name is taken by one writer alone where
the service honours If-None-Match, as Amazon's, Google's and the usual S3 servers do. Nothing is swept here: parts of an
upload that ended in the middle are the bucket's to expire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from eventing import storage
from eventing.errors import Misconfigured, RetryLater
from eventing.storage import AWAY_S, SETTING, listed

# One request for one object. s3fs would ask for its size first, and fetch a large one in ranges, which are of two
# versions where it is replaced meanwhile. A host that does not answer is given up after seconds, not a minute.
_S3_OPTIONS = {"max_concurrency": 1, "config_kwargs": {"connect_timeout": 5, "read_timeout": 30}}
# Errors of the libraries under s3fs, gcsfs and adlfs that are no OSError; all of them mean the far side.
_DRIVERS = frozenset({"aiohttp", "aiobotocore", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"})
_TAKEN = 412  # Precondition Failed
_CONFLICT = 409  # ConditionalRequestConflict: another writer of the same name is not done yet
_PROBE = ".conditional"  # hidden, as all names with a dot first
_CONFLICTS = 5


def open_system(url: str, setting: str) -> tuple[Any, str]:
    """fsspec's file system for `url`, and the path of `url` in it. Raises Misconfigured, naming `setting`."""
    import fsspec

    options = _S3_OPTIONS if url.partition("://")[0] in ("s3", "s3a") else {}
    try:
        system, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as e:
        raise Misconfigured(setting, url, f"a URL whose driver is installed ({e})") from e
    except ValueError as e:
        raise Misconfigured(setting, url, f"a URL that fsspec knows ({e})") from e
    return system, str(root).rstrip("/")


class RemoteFiles:
    """Any place that fsspec reaches; see `files.Files`."""

    def __init__(self, system: Any, root: str, url: str) -> None:
        self._system = system
        self._root = root
        self._url = url
        self._conditional = False

    def read(self, path: str) -> bytes | None:
        with reachable(self._url):
            # Listings are remembered by some drivers; what another process wrote must be seen.
            self._system.invalidate_cache()
            try:
                content: bytes = self._system.cat_file(self._at(path))
            except FileNotFoundError as e:
                if names_no_bucket(e):
                    raise
                return None
            return content

    def write(self, path: str, content: bytes) -> None:
        with reachable(self._url, writing=True):
            self._system.pipe_file(self._at(path), content)

    def create(self, path: str, content: bytes) -> bool:
        if not self._conditional:
            self._prove_conditional()
        for _ in range(_CONFLICTS):
            with reachable(self._url, writing=True):
                if (made := self._create(path, content)) is not None:
                    return made
        raise RetryLater(f"the store {self._url}: another writer holds {path} up", after_s=AWAY_S)

    def put(self, path: str, file: Path) -> None:
        with reachable(self._url, writing=True):
            self._system.put_file(str(file), self._at(path))

    @contextmanager
    def stage(self, folder: str) -> Iterator[Path]:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
            yield Path(scratch) / "staged"

    def adopt(self, staged: Path, path: str) -> None:
        self.put(path, staged)

    def get(self, path: str, into: Path) -> None:
        with reachable(self._url):
            self._system.get_file(self._at(path), str(into))

    def local(self, path: str) -> Path | None:
        return None

    def children(self, path: str) -> tuple[str, ...]:
        with reachable(self._url):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._at(path), detail=False)
            except FileNotFoundError as e:
                if names_no_bucket(e):
                    raise
                return ()
            return listed(PurePosixPath(name).name for name in self._inside(path, found))

    def walk(self, path: str) -> tuple[str, ...]:
        with reachable(self._url):
            self._system.invalidate_cache()
            found = self._inside(path, self._system.find(self._at(path)))
            # A key that ends with a slash is a console's or a server's mark of a folder.
            return listed(str(PurePosixPath(name).relative_to(self._root)) for name in found if name[-1] != "/")

    def delete(self, path: str) -> None:
        with reachable(self._url):
            try:
                self._system.rm(self._at(path), recursive=True)
            except FileNotFoundError as e:
                if names_no_bucket(e):
                    raise

    def _create(self, path: str, content: bytes) -> bool | None:
        """Whether the file is this writer's now; None where that is not decided yet."""
        try:
            # S3 and Google make this one conditional PUT; drivers without it look first.
            self._system.pipe_file(self._at(path), content, mode="create")
        except OSError as e:
            status = _status(e)
            if status == _CONFLICT:
                return None
            # s3fs knows Amazon's refusal alone as FileExistsError: other services say 412 in words of their own.
            if not isinstance(e, FileExistsError) and status != _TAKEN:
                raise
            # A driver repeats a PUT whose answer was lost, and then meets its own.
            return self.read(path) == content
        return True

    def _prove_conditional(self) -> None:
        """Once per process. Raises Misconfigured where a name that is taken can be taken again."""
        self.write(_PROBE, b"taken")
        with reachable(self._url, writing=True):
            if self._create(_PROBE, b"again"):
                expected = "a store that refuses to create what is there already (S3's If-None-Match)"
                raise Misconfigured(SETTING, self._url, expected)
        self._conditional = True

    def _inside(self, path: str, found: Iterable[str]) -> Iterator[str]:
        """Those of a listing that lie in the folder: of an empty one some servers list the folder as a file."""
        return (name for name in found if name.rstrip("/") != self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")


@contextmanager
def reachable(url: str, *, what: str = "the store", writing: bool = False) -> Iterator[None]:
    """Failures of the place at `url`, which is `what`, as RetryLater; absent files, faults of ours escape as they are.

    writing: nothing that is absent can fail a write but the bucket itself.
    """
    try:
        with storage.reachable(url, what):
            yield
    except FileNotFoundError as e:
        if not (writing or names_no_bucket(e)):
            raise
        raise RetryLater(f"{what} {url} cannot be reached: there is no such bucket", after_s=AWAY_S) from e
    except Exception as e:
        if type(e).__module__.partition(".")[0] not in _DRIVERS:
            raise
        why = f"cannot be reached ({e})"
        if type(e).__name__ == "NoCredentialsError":  # botocore's, which need not be installed
            why = "wants keys, and this process has none; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY name some"
        raise RetryLater(f"{what} {url} {why}", after_s=AWAY_S) from e


def names_no_bucket(error: FileNotFoundError) -> bool:
    """Whether not the object is absent but the bucket, as S3 tells."""
    return bool(_answer(error).get("Error", {}).get("Code") == "NoSuchBucket")


def _status(error: OSError) -> int | None:
    """The HTTP status under an error of s3fs; None where there is none."""
    status: int | None = _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _answer(error: OSError) -> dict[str, Any]:
    """What the service answered, as botocore keeps it in the error that s3fs translates."""
    answer = getattr(error.__cause__, "response", None)
    return answer if isinstance(answer, dict) else {}
