"""The predictor: one process that serves a model of the store over every protocol its clients speak.

The process: `__main__` over HTTP, `grpc_server` over gRPC, `process` (start and end), `settings`, `phases` (how long a
start takes), `admission` (how many requests at once).

What is served: `catalog` (which versions, and why one is not ready), `served` (one that answers), `repository` (loads,
swaps, unloads), `batching` (whether joining requests pays) and `batcher` (joins them). What is counted: `statistics`,
`tallies` (its sums), `exposition` and `other_names` (the metrics).

Requests: `query` (one, with its answer), `app` (predictions straight to the model), `flask_app` (everything else),
`answers`, `routes`; `protocols` has one file per protocol with paths, and a new protocol is a new file; `wire` is how
they spell requests and answers; `cloudevents` (predictions asked by event), `reply_as` (how replies introduce
themselves); `openapi`, the documents.

What is told beside the answers: `outbox`.
"""

import time

ENTERED = time.monotonic()
"""When the first line of ours ran: Python's own start ends here, the imports begin."""
