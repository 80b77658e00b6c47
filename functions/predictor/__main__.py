"""The HTTP predictor: `python -m functions.predictor`.

The port opens first and readiness says 503 with the reason, until the models have proved themselves. On SIGTERM
readiness fails at once, requests still arriving are answered for the drain time, those in flight to their end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from eventing import server
from eventing.settings import run
from functions.predictor import ENTERED
from functions.predictor.app import App
from functions.predictor.phases import Start, process_birth
from functions.predictor.process import Process
from functions.predictor.settings import Settings
from functions.predictor.wire.bodies import Bodies


def main(environ: Mapping[str, str]) -> None:
    settings = Settings.from_environment(environ)
    process = Process(settings, Start(process_birth(ENTERED), ENTERED))
    bodies = Bodies(settings.max_body_bytes)
    app = App(process.catalog, bodies, process.repository, process.admission.requests)
    server.serve(
        app,
        settings.port,
        settings.host,
        direct=app.direct,
        blocking_threads=process.threads,
        drain_s=settings.drain_s,
        on_listening=process.listening,
        on_stopping=process.leave,
        on_drained=process.flush,
    )


if __name__ == "__main__":
    run(main, os.environ)
