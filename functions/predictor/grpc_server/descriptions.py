"""What is known of the server and its models, as messages. Each raises Refusal for what is not here or not ready.

Source: Open Inference Protocol V2, gRPC; Triton's extensions model_configuration, model_repository and statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from functions.package import TensorSpec
from functions.predictor.catalog import Catalog
from functions.predictor.grpc_server.open_inference_pb2 import (
    ModelConfig,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelInput,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelOutput,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatistics,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)

if TYPE_CHECKING:
    from functions.predictor.repository import Repository

EXTENSIONS = ("model_configuration", "model_repository", "statistics")
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"  # Triton's words for an ONNX model
NOT_LOADED = "not loaded"  # the reason of a version that lies in the store and was never asked for


def live(catalog: Catalog, request: ServerLiveRequest) -> ServerLiveResponse:
    return ServerLiveResponse(live=True)


def ready(catalog: Catalog, request: ServerReadyRequest) -> ServerReadyResponse:
    return ServerReadyResponse(ready=catalog.ready)


def model_ready(catalog: Catalog, request: ModelReadyRequest) -> ModelReadyResponse:
    """False with the reason in RepositoryIndex; a Refusal alone for what is not served here."""
    return ModelReadyResponse(ready=catalog.entry(request.name, request.version or None).served is not None)


def server(catalog: Catalog, request: ServerMetadataRequest) -> ServerMetadataResponse:
    from importlib import metadata as packages  # looks through the installed files: not while a model starts

    return ServerMetadataResponse(name="headrace", version=packages.version("headrace"), extensions=EXTENSIONS)


def model(catalog: Catalog, request: ModelMetadataRequest) -> ModelMetadataResponse:
    served = catalog.find(request.name, request.version or None)
    ready = [entry.version for entry in catalog.entries(request.name) if entry.served is not None]

    def described(specs: Iterable[TensorSpec]) -> list[ModelMetadataResponse.TensorMetadata]:
        return [
            ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            for spec in specs
        ]

    return ModelMetadataResponse(
        name=served.name,
        versions=[request.version] if request.version else ready,
        platform=PLATFORM,
        inputs=described(served.signature.inputs),
        outputs=described(served.signature.outputs),
    )


def config(catalog: Catalog, request: ModelConfigRequest) -> ModelConfigResponse:
    served = catalog.find(request.name, request.version or None)
    inputs, outputs = served.signature.inputs, served.signature.outputs
    return ModelConfigResponse(
        config=ModelConfig(
            name=served.name,
            platform=PLATFORM,
            backend=BACKEND,
            input=[ModelInput(name=spec.name, data_type=_type(spec), dims=spec.shape) for spec in inputs],
            output=[ModelOutput(name=spec.name, data_type=_type(spec), dims=spec.shape) for spec in outputs],
        )
    )


def statistics(catalog: Catalog, request: ModelStatisticsRequest) -> ModelStatisticsResponse:
    """Of every version that answers; of one model or one version where it is named."""
    if request.version:
        entries = [catalog.entry(request.name, request.version)]
    else:
        entries = catalog.entries(request.name or None)
    return ModelStatisticsResponse(
        model_stats=[
            ModelStatistics(name=entry.name, version=entry.version, **entry.served.statistics.to_json())
            for entry in entries
            if entry.served is not None
        ]
    )


def index(catalog: Catalog, repository: Repository | None, request: RepositoryIndexRequest) -> RepositoryIndexResponse:
    """Every version that is here and, where they may be loaded, that could be; with `ready` those that answer alone."""
    entries = [entry for entry in catalog.entries() if entry.served is not None or not request.ready]
    models = [
        RepositoryIndexResponse.ModelIndex(name=e.name, version=e.version, state=e.state, reason=e.reason)
        for e in entries
    ]
    if repository is not None and not request.ready:
        here = {(entry.name, entry.version) for entry in entries}
        models += [
            RepositoryIndexResponse.ModelIndex(name=name, version=version, state="UNAVAILABLE", reason=NOT_LOADED)
            for name, versions in repository.available().items()
            for version in versions
            if (name, version) not in here
        ]
    return RepositoryIndexResponse(models=models)


def _type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.is_text else f"TYPE_{spec.datatype}"
