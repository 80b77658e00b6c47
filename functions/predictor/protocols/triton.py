"""What Triton adds to V2 around the models: their repository, statistics and configuration.

    POST /v2/repository/index                {"ready": true} or nothing → [{"name", "version", "state", "reason"}, …]
    POST /v2/repository/models/M/load        {"parameters": {"version": "…"}} or nothing
    POST /v2/repository/models/M/unload      the same
    GET  /v2/models[/M[/versions/V]]/stats   → {"model_stats": [{"name", "version", "inference_count", …}, …]}
    GET  /v2/models/M[/versions/V]/config    → {"name", "platform", "max_batch_size", "input": […], "output": […]}

The parameter `version` is Headrace's; without it, load takes the newest version of the store, unload all that answer.
Source: github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md, extension_statistics.md
and extension_model_configuration.md; KServe answers load and unload with a JSON object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from functions import tensors
from functions.predictor.answers import BAD_REQUEST, UNSUPPORTED, Answer, Refusal, json_answer, parse
from functions.predictor.catalog import Catalog
from functions.predictor.protocols.v2 import PLATFORM
from functions.predictor.routes import Route
from functions.predictor.served import Served

if TYPE_CHECKING:
    from functions.package import TensorSpec
    from functions.predictor.repository import Repository

NOT_LOADED = "not loaded"  # the reason of a version that lies in the store and was never asked for


def index(repository: Repository, body: bytes) -> Answer:
    """Every version that is here or could be; with `ready`, those that answer alone, and no look into the store."""
    wish = parse(body) if body.strip() else {}
    ready = wish.get("ready", False)
    if not isinstance(ready, bool):
        raise Refusal(BAD_REQUEST, f"'ready' is {tensors.seen(ready)}; expected true or false")
    entries = [entry for entry in repository.catalog.entries() if entry.served is not None or not ready]
    told = [{"name": e.name, "version": e.version, "state": e.state, "reason": e.reason} for e in entries]
    if not ready:
        here = {(entry.name, entry.version) for entry in entries}
        told += [
            {"name": name, "version": version, "state": "UNAVAILABLE", "reason": NOT_LOADED}
            for name, versions in repository.available().items()
            for version in versions
            if (name, version) not in here
        ]
    return json_answer(told)


def load(repository: Repository, body: bytes, model: str) -> Answer:
    """Answers once the version does."""
    version = repository.load(model, _version(body))
    return json_answer({"name": model, "version": version, "load": True})


def unload(repository: Repository, body: bytes, model: str) -> Answer:
    repository.unload(model, _version(body))
    return json_answer({"name": model, "unload": True})


def _version(body: bytes) -> str | None:
    """The version that a wish to load or unload names. Raises Refusal: 501 for what would make another model of it."""
    parameters = (parse(body) if body.strip() else {}).get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, Mapping):
        raise Refusal(BAD_REQUEST, f"'parameters' is {tensors.seen(parameters)}; expected an object")
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Refusal(
                UNSUPPORTED, f"the parameter {name!r:.60} is not supported; a model comes whole from the store"
            )
    version = parameters.get("version")
    if type(version) is int:
        version = str(version)
    if version is not None and not (isinstance(version, str) and version):
        raise Refusal(BAD_REQUEST, f"the parameter 'version' is {tensors.seen(version)}; expected the version's name")
    return version


def all_statistics(catalog: Catalog) -> Answer:
    return _told(entry.served for entry in catalog.entries())


def statistics(catalog: Catalog, model: str) -> Answer:
    return _told(entry.served for entry in catalog.entries(model))


def version_statistics(catalog: Catalog, model: str, version: str) -> Answer:
    return _told([catalog.find(model, version)])


def _told(versions: Iterable[Served | None]) -> Answer:
    """What is counted of each version that answers."""
    told: list[dict[str, Any]] = [
        {"name": served.name, "version": served.version} | served.statistics.to_json()
        for served in versions
        if served is not None
    ]
    return json_answer({"model_stats": told})


def configuration(catalog: Catalog, model: str, version: str | None = None) -> Answer:
    """The part of Triton's model configuration that its clients size their requests by.

    max_batch_size 0 says that `dims` have the batch's axis in them, and that the server sets no size of its own.
    """
    served = catalog.find(model, version)

    def described(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "data_type": f"TYPE_{'STRING' if spec.is_text else spec.datatype}", "dims": spec.shape}
            for spec in specs
        ]

    return json_answer(
        {
            "name": served.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "input": described(served.signature.inputs),
            "output": described(served.signature.outputs),
        }
    )


ROUTES = (
    Route("POST", "/v2/repository/index", index, changes=True),
    Route("POST", "/v2/repository/models/<model>/load", load, changes=True),
    Route("POST", "/v2/repository/models/<model>/unload", unload, changes=True),
    Route("GET", "/v2/models/stats", all_statistics),
    Route("GET", "/v2/models/<model>/stats", statistics),
    Route("GET", "/v2/models/<model>/versions/<version>/stats", version_statistics),
    Route("GET", "/v2/models/<model>/config", configuration),
    Route("GET", "/v2/models/<model>/versions/<version>/config", configuration),
)
