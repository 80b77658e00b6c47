"""Small tables with all that real ones have: numbers, words in several scripts, gaps, names with spaces and umlauts."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TARGET = "target"
COLUMNS = ("Länge", "Gewicht (kg)", "城市", "offen", TARGET)
CITIES = ("Köln", "東京", "São Paulo")
# Questions for whoever asks all the while: the same few over and over are a drift, and start a training of their own.
MANY = 5000
GAPS = 0.05  # share of the cells of two columns that are empty

Row = dict[str, Any]


def rows(count: int, seed: int, shift: float = 0.0, noise: float = 0.3) -> list[Row]:
    """Rows of one relation between the columns and the target. shift: of `Länge`, in standard deviations.

    noise: how much else decides; with 0.3 a forest of a few hundred rows has a roc_auc of about 0.97.
    """
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        length, city = chance.gauss(shift, 1.0), chance.choice(CITIES)
        made.append(
            {
                "Länge": None if chance.random() < GAPS else round(length, 4),
                "Gewicht (kg)": round(chance.gauss(70, 10), 2),
                "城市": None if chance.random() < GAPS else city,
                "offen": chance.choice(("yes", "no")),
                TARGET: int(length + (0.8 if city == "東京" else -0.3) + chance.gauss(0, noise) > 0),
            }
        )
    return made


def questions(count: int, seed: int, shift: float = 0.0) -> list[Row]:
    """Rows without their outcome, as one asks a model."""
    return [{k: v for k, v in row.items() if k != TARGET} for row in rows(count, seed, shift)]


def write(file: Path, table: Iterable[Row], columns: Sequence[str] = COLUMNS) -> Path:
    with file.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return file


def table(file: Path, seed: int, count: int = 400) -> Path:
    """A file to learn from, different for each seed."""
    return write(file, rows(count, seed))
