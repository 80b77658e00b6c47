"""The predictor: one process that serves a model of the store over every protocol its clients speak.

- `__main__`: the process: settings, start, drain
- `app`: WSGI, predictions straight to the model; `flask_app`: everything else
- `answers`: what a protocol is made of: routes, answers, refusals
- `protocols`: one file per protocol with paths of its own; a new protocol is a new file
- `rows`, `examples`, `tokens`: how V1 spells inputs, what it classifies and regresses, and NaN
- `cloudevents`: predictions asked by event; `reply_as`: how replies introduce themselves
- `description`, `schemas`: the OpenAPI documents; `try_page`: the page over them
- `catalog`: what is served, and why it is not ready
- `start`: fetch, load, self-test; `phases`: how long each took
- `sampler`: predictions over HTTP told to the Broker, at a bounded rate; `made`: the event that tells of one
"""

import time

ENTERED = time.monotonic()
"""When the first line of ours ran: Python's own start ends here, the imports begin."""
