"""The predictor: one process that serves a model of the store over every protocol its clients speak.

The process: `__main__` (settings, start, drain), `settings`, `phases` (how long a start takes), `admission` (how many
requests at once), `grpc_server` (the same over gRPC, a process of its own).

What is served: `catalog` (which versions, and why one is not ready), `repository` (loads, swaps, unloads), `batching`
(whether joining requests pays) and `batcher` (joins them), `statistics` (counts and times).

Requests: `app` (predictions straight to the model), `flask_app` (everything else), `bodies` (limits and encodings),
`answers`, `routes`; `protocols` holds one file per protocol with paths, and a new protocol is a new file.

- V1: `rows` and `examples` read inputs, `tokens` writes NaN
- V2: `infer_request` reads inputs, `binary` the raw ones
- CloudEvents: `cloudevents`; `reply_as`: how replies introduce themselves
- OpenAPI: `description` and `schemas` make the documents, `try_page` the page over them

What is told: `sampler` and `made` (predictions, to the Broker), `failures` (versions that cannot serve).
"""

import time

ENTERED = time.monotonic()
"""When the first line of ours ran: Python's own start ends here, the imports begin."""
