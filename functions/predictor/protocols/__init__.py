"""One module per protocol, each with `ROUTES`; whatever lies in this folder is served."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from functions.predictor.routes import Route


def routes() -> Iterator[tuple[str, Route]]:
    """Every route with its protocol's name, the protocols in alphabetical order."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        for route in importlib.import_module(f"{__name__}.{module.name}").ROUTES:
            yield module.name, route
