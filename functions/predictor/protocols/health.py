"""Is it alive, is it ready: the paths that probes and clients of each family ask.

Alive is a process that answers; ready is one whose models have passed their self-test and that is not leaving.
Source: Open Inference Protocol V2 (`live`, `ready`), KServe (`GET /`), Knative functions (`/health/…`), BentoML
(`/livez`, `/readyz`), MLflow (`/ping`, `/health`: 200 once the model is there).
"""

from __future__ import annotations

from functions.predictor.answers import UNAVAILABLE, Answer, json_answer
from functions.predictor.catalog import Catalog
from functions.predictor.routes import Route


def alive(catalog: Catalog) -> Answer:
    return json_answer({"status": "alive", "live": True})


def ready(catalog: Catalog) -> Answer:
    """200 or 503. The specification prints `live` here too, KServe `ready`; its clients read either."""
    is_ready = catalog.ready
    body = {"ready": is_ready, "live": is_ready} | ({} if is_ready else {"error": catalog.reason})
    return json_answer(body, 200 if is_ready else UNAVAILABLE)


ROUTES = (
    Route("GET", "/", alive),
    Route("GET", "/v2/health/live", alive),
    Route("GET", "/v2/health/ready", ready),
    Route("GET", "/health/liveness", alive),
    Route("GET", "/health/readiness", ready),
    Route("GET", "/livez", alive),
    Route("GET", "/readyz", ready),
    Route("GET", "/ping", ready),
    Route("GET", "/health", ready),
)
