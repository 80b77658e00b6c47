"""The predictor's gRPC door: the Open Inference Protocol V2 as Triton's and KServe's clients speak it.

- `__main__`: the process: settings, start, drain; `python -m functions.predictor.grpc_server`
- `service`: the methods, their faults as statuses, and who waits; `health`: the probes' own protocol
- `inference`: a request's message to a query, a prediction to an answer's message
- `descriptions`: what is known of the server and its models
- `open_inference.proto`: the contract; `open_inference_pb2` is made of it by `generate`

A process of its own, over the same catalog and the same models as the HTTP predictor's. Needs the extra `grpc`; nothing
else of the predictor imports this package.
"""

try:
    import grpc  # noqa: F401 - said here, where it is known what to do
except ModuleNotFoundError as e:
    raise ModuleNotFoundError("the gRPC predictor needs grpcio: pip install 'headrace[grpc]'") from e
