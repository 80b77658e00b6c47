"""The paths of a protocol and who answers them. Served by `app` for predictions, by `flask_app` for all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.predictor.answers import Answer, Refusal

if TYPE_CHECKING:
    from functions.predictor.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Route:
    """One path of a protocol.

    path: as Flask writes it; of a prediction with `<model>` and perhaps `<version>` or `<label>`.
    handle: of a prediction `(served, body, environ)`, of a change `(repository, body, **variables of the path)`, else
    `(catalog, **variables)`.
    predicts: whether it asks a model; such paths skip Flask once the model is ready. changes: whether it loads or
    unloads one.
    """

    method: str
    path: str
    handle: Callable[..., Answer]
    predicts: bool = False
    changes: bool = False


def view(route: Route, catalog: Catalog, variables: Mapping[str, str]) -> Answer:
    """The answer of a route that predicts nothing, its refusal included."""
    try:
        return route.handle(catalog, **variables)
    except Refusal as e:
        return e.answer()
