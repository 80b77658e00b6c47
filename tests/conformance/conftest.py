"""Runs the promises of a place side by side, and tells of them in one table.

A promise waits for most of its time: for a pod, a retry, a scale to zero. All those of a place begin together, each on
a thread; pytest then asks one after the other how it ended. CONFORMANCE_REPORT names a file for the table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import place as places
from tests.conformance import report
from tests.conformance.api import GIVEN_UP
from tests.conformance.place import Place

# A node of two cores that others work on meanwhile restarts, with more, the pods that it finds too slow to answer.
AT_ONCE = {"laptop": 12, "cluster": 4}
RESULTS = pytest.StashKey[report.Results]()
BEGUN = pytest.StashKey[dict[str, "Future[None]"]]()
NAMED = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session", params=["laptop", pytest.param("cluster", marks=pytest.mark.cluster)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place with a namespace for the suite; every promise is asked of each."""
    if request.param == "cluster" and not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    with getattr(places, request.param)(tmp_path_factory.mktemp(request.param)) as made:
        pool = ThreadPoolExecutor(AT_ONCE[made.name], thread_name_prefix=made.name)
        items = [item for item in request.session.items if _place_of(item) == made.name]
        request.session.stash[BEGUN] = {item.nodeid: pool.submit(_ask, item, made) for item in items}
        try:
            yield made
        finally:
            GIVEN_UP.set()
            pool.shutdown(wait=True, cancel_futures=True)
            GIVEN_UP.clear()


def _place_of(item: pytest.Item) -> str | None:
    parameters = getattr(item, "callspec", None)
    return parameters.params.get("place") if parameters is not None else None


def _ask(item: Any, place: Place) -> None:
    """One promise of a place."""
    named: set[str] = set()
    item.stash[NAMED] = named
    arguments = {name: value for name, value in item.callspec.params.items() if name != "place"}
    item.obj(place=dataclasses.replace(place, named=named), **arguments)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if _place_of(pyfuncitem) is None:
        return None
    begun = pyfuncitem.session.stash[BEGUN]
    if getattr(pyfuncitem, "execution_count", 1) > 1:
        # Once more: how it ended at first is known.
        pyfuncitem.funcargs["place"].stage.forget_failures()
        _ask(pyfuncitem, pyfuncitem.funcargs["place"])
    else:
        begun[pyfuncitem.nodeid].result()
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    where = _place_of(item)
    if where is not None and (outcome.when == "call" or outcome.failed):
        results = item.config.stash.setdefault(RESULTS, report.Results())
        results.note(item.nodeid, where, outcome.passed, item.stash.get(NAMED, set()))
    return outcome


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, None)
    target = os.environ.get("CONFORMANCE_REPORT")
    if results is None or not target:
        return
    page = Path(target)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(results.page(before), encoding="utf-8")
    terminalreporter.write_line(f"conformance: {results.summary()}; the table is in {target}")
