"""One house for all tests that leave it as they found it, and a way to open another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace import daemon
from tests.end_to_end import pickle_watch, tables
from tests.end_to_end.house import House, open_house

MODEL = "walk"
# Short canaries; on a machine that does other things too, neither chance nor its load is to decide a promotion.
QUICK = {
    "HEADRACE_CANARY_S": "2",
    "HEADRACE_CANARY_POLL_S": "0.3",
    "HEADRACE_POLL_S": "0.3",
    "HEADRACE_MAX_REGRESSION": "0.05",
    "HEADRACE_LATENCY_FLOOR_MS": "60000",
}

Open = Callable[..., House]


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A platform with one model, `walk`, that serves. Every process of it tells of its use of pickle."""
    home = tmp_path_factory.mktemp("house")
    with open_house(home / "home", QUICK, pickle_watch.interpreters(home, daemon.functions_interpreter())) as opened:
        opened.learn(tables.table(home / "walk.csv", seed=1), MODEL)
        yield opened


@pytest.fixture(scope="module")
def open_another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens a house of the module's own, closed at its end."""
    with ExitStack() as stack:

        def open_it(values: Mapping[str, str] | None = None, images: Mapping[str, str] | None = None) -> House:
            home = tmp_path_factory.mktemp("other") / "home"
            return stack.enter_context(open_house(home, {**QUICK, **(values or {})}, images))

        yield open_it


@pytest.fixture
def file(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a table of its own for each seed."""
    return lambda seed: tables.table(tmp_path / f"table-{seed}.csv", seed)
