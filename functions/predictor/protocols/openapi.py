"""OpenAPI documents of the server, of each model and of each version, and a page to try them at.

    GET /openapi.json, /v2/docs/dataplane.json                    every model that is ready
    GET /v2/models/M[/versions/V]/docs/dataplane.json             one of them; as …/docs/openapi.json too
    GET /docs, /v2/docs, /v2/models/M[/versions/V]/docs           the page

All links are relative, so that a gateway may serve a model under a prefix.
Source: SeldonIO/MLServer mlserver/rest/app.py for the paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from functions.predictor.answers import Answer, json_answer
from functions.predictor.catalog import Catalog
from functions.predictor.routes import Route

# What describes and shows is imported when somebody asks: a process that only predicts has no use for either.


def server_document(catalog: Catalog, root: str) -> Answer:
    from importlib import metadata as packages

    from functions.predictor.openapi import description

    names = (name for name in catalog.models() if catalog.entry(name).served is not None)
    models = [catalog.find(name) for name in names]
    return json_answer(description.document(models, "Headrace", packages.version("headrace"), root))


def model_document(catalog: Catalog, root: str, model: str, version: str | None = None) -> Answer:
    from functions.predictor.openapi import description

    served = catalog.find(model, version)
    by_version = version is not None
    return json_answer(description.document([served], model, served.version, root, by_version=by_version))


def page(catalog: Catalog, document: str, assets: str, model: str | None = None, version: str | None = None) -> Answer:
    """The page of the server, or of one model that is known here."""
    from functions.predictor.openapi import try_page

    title = "Headrace" if model is None else catalog.entry(model, version).name
    return try_page.page(title, document, assets)


def asset(catalog: Catalog, name: str) -> Answer:
    from functions.predictor.openapi import try_page

    return try_page.asset(name)


def _routes() -> Iterator[Route]:
    """Each path with the way from it to the server's root, which is as many steps up as it has folders."""
    yield Route("GET", "/openapi.json", partial(server_document, root="."))
    yield Route("GET", "/docs", partial(page, document="openapi.json", assets="docs/"))
    yield Route("GET", "/docs/<name>", asset)
    for place, describe in (
        ("/v2", server_document),
        ("/v2/models/<model>", model_document),
        ("/v2/models/<model>/versions/<version>", model_document),
    ):
        folders = place.count("/")
        for name in ("dataplane.json", "openapi.json"):
            yield Route("GET", f"{place}/docs/{name}", partial(describe, root="/".join([".."] * (folders + 1))))
        yield Route(
            "GET", f"{place}/docs", partial(page, document="docs/dataplane.json", assets="../" * folders + "docs/")
        )


ROUTES = tuple(_routes())
