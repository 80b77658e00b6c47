"""inference.GRPCInferenceService: its methods, every fault as a status, and who is worked on and who waits.

The statuses mean what HTTP's do and say the same; `retry-after` stands in the trailing metadata, in seconds.
Source: Open Inference Protocol V2, gRPC; google.rpc.Code; gRFC A6 (grpc-retry-pushback-ms).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import grpc
from google.protobuf.message import DecodeError, Message

from eventing.errors import Rejected, RetryLater
from functions.predictor import answers
from functions.predictor.admission import Places
from functions.predictor.answers import Refusal
from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server import descriptions
from functions.predictor.grpc_server import open_inference_pb2 as v2
from functions.predictor.served import Served
from monitoring import predictions

if TYPE_CHECKING:
    from functions.predictor.repository import Repository

NAME: str = v2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
PROTOCOL = "grpc"  # the metrics' label
STATUSES = {
    answers.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    answers.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    answers.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    answers.UNSUPPORTED_MEDIA: grpc.StatusCode.INVALID_ARGUMENT,
    answers.FAILED: grpc.StatusCode.INTERNAL,
    answers.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    answers.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
# A status travels in the trailers, of which a client takes 8 KiB in all; a longer one would reach it as another error.
MAX_MESSAGE_BYTES = 6000
PROBE = predictions.PROBE_HEADER.lower()

Call = Callable[[Any, grpc.ServicerContext], Message]
"""A method: its request and the call's context to its answer; raises a verdict."""

log = logging.getLogger(__name__)


class Service(grpc.GenericRpcHandler):
    """The methods, called from any number of threads.

    requests: the places of predictions; nothing else needs one. repository: what loads and unloads models when it is
    asked to; None: nobody does.
    """

    def __init__(self, catalog: Catalog, requests: Places, repository: Repository | None = None) -> None:
        self._catalog = catalog
        self._requests = requests
        self._repository = repository
        described: dict[str, Callable[[Catalog, Any], Message]] = {
            "ServerLive": descriptions.live,
            "ServerReady": descriptions.ready,
            "ModelReady": descriptions.model_ready,
            "ServerMetadata": descriptions.server,
            "ModelMetadata": descriptions.model,
            "ModelConfig": descriptions.config,
            "ModelStatistics": descriptions.statistics,
        }
        calls: dict[str, Call] = {
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            **{method: self._described(describe) for method, describe in described.items()},
        }
        self._handlers = {f"/{NAME}/{method}": _handler(method, call) for method, call in calls.items()}

    def add_to(self, server: grpc.Server) -> None:
        server.add_generic_rpc_handlers((self,))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Who answers a call; None: no method of this service, and somebody else's perhaps."""
        method = handler_call_details.method
        found = self._handlers.get(method)
        if found is None and method.startswith(f"/{NAME}/"):
            # As of a stream: such a handler is called without waiting for a message that may never come.
            return grpc.stream_unary_rpc_method_handler(_unsupported(method.rpartition("/")[2]))
        return found

    def _described(self, describe: Callable[[Catalog, Any], Message]) -> Call:
        return lambda request, context: describe(self._catalog, request)

    def _index(self, request: v2.RepositoryIndexRequest, context: grpc.ServicerContext) -> Message:
        return descriptions.index(self._catalog, self._repository, request)

    def _load(
        self, request: v2.RepositoryModelLoadRequest, context: grpc.ServicerContext
    ) -> v2.RepositoryModelLoadResponse:
        name = request.model_name or request.repository_name
        self._control().load(name, _version(request.parameters))
        return v2.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    def _unload(
        self, request: v2.RepositoryModelUnloadRequest, context: grpc.ServicerContext
    ) -> v2.RepositoryModelUnloadResponse:
        name = request.model_name or request.repository_name
        self._control().unload(name, _version(request.parameters))
        return v2.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    def _control(self) -> Repository:
        if self._repository is None:
            raise Refusal(answers.UNSUPPORTED, "this server neither loads nor unloads models")
        return self._repository

    # ------------------------------------------------------------------ predictions

    def _infer(self, request: v2.ModelInferRequest, context: grpc.ServicerContext) -> v2.ModelInferResponse:
        """One prediction, counted."""
        served = self._catalog.find(request.model_name, request.model_version or None)
        # Looked up before it is asked for: asking makes one.
        meter = served.statistics.meters.get(PROTOCOL) or served.statistics.meter(PROTOCOL)
        probe = any(key == PROBE for key, _ in context.invocation_metadata())
        began = meter.begin()
        outcome = predictions.FAILED
        try:
            answer = self._predict(served, request, context, told=not probe)
            outcome = predictions.DONE
            return answer
        except RetryLater:
            outcome = predictions.RETRY_LATER
            raise
        except (Refusal, Rejected):
            outcome = predictions.REJECTED
            raise
        finally:
            meter.end(began, outcome, probe)

    def _predict(
        self, served: Served, request: v2.ModelInferRequest, context: grpc.ServicerContext, told: bool
    ) -> v2.ModelInferResponse:
        """Raises Overloaded when too many wait already, or this one has waited in vain."""
        from functions.predictor.grpc_server import inference  # numpy: not before the port is open

        self._requests.take()
        try:
            began = time.perf_counter()
            query = inference.decode(served.signature, request)
            prediction = served.predict(query, began, told=told, wanted=context.is_active)
            return inference.encode(served, prediction, request)
        finally:
            self._requests.leave()


def _version(parameters: Mapping[str, v2.ModelRepositoryParameter]) -> str | None:
    """The version that a wish to load or unload names; the parameter is Headrace's, as over HTTP.

    Raises Refusal (501) for what would make another model of it.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Refusal(
                answers.UNSUPPORTED, f"the parameter {name!r:.60} is not supported; a model comes whole from the store"
            )
    if "version" not in parameters:
        return None
    version = parameters["version"]
    return version.string_param or str(version.int64_param)


def refuse(context: grpc.ServicerContext, error: Refusal | Rejected | RetryLater) -> NoReturn:
    """Ends the call with the status that a verdict becomes, by an exception that is grpc's own."""
    code, after_s = grpc.StatusCode.INVALID_ARGUMENT, None
    if isinstance(error, RetryLater):
        code, after_s = grpc.StatusCode.UNAVAILABLE, error.after_s
    elif isinstance(error, Refusal):
        code, after_s = STATUSES[error.status], error.retry_after_s
    if after_s is not None:
        # The first is HTTP's, for a person; the second is what gRPC's own retries go by.
        pushback = ("grpc-retry-pushback-ms", str(max(1, round(after_s * 1000))))
        context.set_trailing_metadata((("retry-after", str(max(1, round(after_s)))), pushback))
    context.abort(code, shortened(str(error)))


def shortened(text: str) -> str:
    """`text`, or as much of it as fits into a status's message, which travels percent-encoded."""
    if len(quote(text, safe=" ")) <= MAX_MESSAGE_BYTES:
        return text
    while len(quote(text, safe=" ")) > MAX_MESSAGE_BYTES - 3:
        text = text[: len(text) * 9 // 10]
    return f"{text}…"


def _handler(method: str, call: Call) -> grpc.RpcMethodHandler[bytes, bytes]:
    """`call` as grpc calls it, from bytes to bytes; every failure of it as a status, a message that is none too."""
    kind = getattr(v2, f"{method}Request")

    def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
        error: Refusal | Rejected | RetryLater
        try:
            return call(kind.FromString(body), context).SerializeToString()
        except (Refusal, Rejected, RetryLater) as e:
            error = e
        except DecodeError as e:
            error = Refusal(answers.BAD_REQUEST, f"the message is no {kind.DESCRIPTOR.full_name}: {e}")
        except Exception as e:
            log.exception("%s failed", method)
            what = "inference" if method == "ModelInfer" else method
            error = Refusal(answers.FAILED, f"{what} failed: {type(e).__name__}; see the predictor's log")
        return refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(answer)


def _unsupported(method: str) -> Callable[[Any, grpc.ServicerContext], NoReturn]:
    def answer(requests: Any, context: grpc.ServicerContext) -> NoReturn:
        advice = "; send each request by ModelInfer" if method == "ModelStreamInfer" else ""
        refuse(context, Refusal(answers.UNSUPPORTED, f"{method:.60} is not supported{advice}"))

    return answer
