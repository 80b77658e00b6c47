"""functions.predictor.protocols.openapi: what the document says is so, and the page works without another server."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from playwright.sync_api import Browser, expect, sync_playwright
from werkzeug.test import Client

from functions.model import Model, Signature, TensorSpec
from functions.predictor.catalog import Catalog
from functions.predictor.openapi import schemas
from functions.predictor.protocols import openapi
from functions.predictor.served import Served
from functions.store import Store
from tests.functions import packages
from tests.functions.predictor import predictors

CHROMIUM = Path("/usr/bin/chromium")
DOCUMENTS = ("/openapi.json", "/v2/docs/dataplane.json", "/v2/models/flights/docs/dataplane.json",
             "/v2/models/flights/docs/openapi.json",
             f"/v2/models/flights/versions/{packages.VERSION}/docs/dataplane.json")  # fmt: skip
PAGES = ("/docs", "/v2/docs", "/v2/models/flights/docs", f"/v2/models/flights/versions/{packages.VERSION}/docs")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.build_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def client(package: Path) -> Client:
    return predictors.serving(package)[0]


@pytest.fixture(scope="module")
def kinds(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A server of every kind of model: a table, one that came without a manifest, a regression of a tensor."""
    client, catalog = predictors.serving(package)
    for name, build in (("foreign", packages.build_foreign), ("grid", packages.build_grid)):
        folder = build(tmp_path_factory.mktemp(name))
        catalog.put(Served(name, "1", Model.load(folder)))
    return client


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _ask(client: Client, document: dict[str, Any], at: str, path: str, media_type: str, body: Any) -> Any:
    """The answer to a request where the document, found `at`, says that it goes."""
    base = urljoin(at, document["servers"][0]["url"]).rstrip("/")
    return client.post(base + path, data=json.dumps(body), content_type=media_type)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_document_is_openapi_3_1(client: Client, path: str) -> None:
    document = client.get(path).json
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_of_models_of_every_kind_is_openapi_3_1(kinds: Client) -> None:
    document = kinds.get("/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    assert {f"/v1/models/{m}:predict" for m in ("flights", "foreign", "grid")} <= set(document["paths"])
    verbs = {path.partition(":")[2] for path in document["paths"] if "grid" in path}
    assert verbs == {"", "predict", "regress"}


@pytest.mark.parametrize("at", ["/openapi.json", *DOCUMENTS[2:]])
def test_every_example_works_where_the_document_says_and_the_answer_is_as_it_says(kinds: Client, at: str) -> None:
    document = kinds.get(at).json
    asked = 0
    for path, method, operation in _operations(document):
        if method != "post":
            continue
        ((media_type, content),) = operation["requestBody"]["content"].items()
        for name, example in content["examples"].items():
            _check(document, content["schema"], example["value"])
            answer = _ask(kinds, document, at, path, media_type, example["value"])
            assert answer.status_code == 200, (path, name, answer.text)
            _check(document, operation["responses"]["200"]["content"][media_type]["schema"], answer.json)
            asked += 1
    assert asked >= 4


def _check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Whether a value is as the document's schema says."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_every_path_to_look_at_is_there(kinds: Client) -> None:
    document = kinds.get("/openapi.json").json
    for path, method, _ in _operations(document):
        if method == "get":
            assert kinds.get(path).status_code == 200, path


def test_the_example_is_a_row_of_the_packages_own_samples(client: Client) -> None:
    document = client.get("/v2/models/flights/docs/dataplane.json").json
    content = document["paths"]["/v1/models/flights:predict"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["rows by name"]["value"] == {"instances": list(packages.ROWS[:2])}


def test_a_model_without_samples_gets_an_example_that_is_made_up_in_its_own_shapes() -> None:
    specs = (
        TensorSpec("grid", "FP32", "tensor(float)", (4, 2, -1)),
        TensorSpec("word", "BYTES", "tensor(string)", (4, 1), categories=("AA", "DL")),
        TensorSpec("age", "INT64", "tensor(int64)", (4,), range=(20.0, 80.0)),
    )
    rows = schemas.rows_of(Signature(specs, ()), ())
    assert rows == [{"grid": [[1], [1]], "word": "AA", "age": 50}] * 4
    assert [tensor["shape"] for tensor in schemas.tensors_of(Signature(specs, ()), rows)] == [[4, 2, 1], [4, 1], [4]]


def test_categories_and_ranges_are_told_and_restrict_nothing(client: Client) -> None:
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    rows = schemas["flights.predict"]["oneOf"][0]["properties"]["instances"]["items"]["anyOf"][0]["properties"]
    carrier = rows["carrier"]["anyOf"][0]
    assert carrier["examples"] == list(packages.CARRIERS)
    assert "AA, DL, UA" in carrier["description"]
    assert "enum" not in json.dumps(rows)
    assert "Seen in training: 100 to 2500" in rows["distance"]["description"]
    assert (rows["distance"]["format"], rows["distance"]["maximum"] > 1e38) == ("float", True)


def test_a_model_that_is_not_there_or_not_ready_has_no_document() -> None:
    client, _ = predictors.starting()
    assert client.get("/v2/models/nobody/docs/dataplane.json").status_code == 404
    assert client.get("/v2/models/nobody/docs").status_code == 404
    assert client.get("/v2/models/flights/docs/dataplane.json").status_code == 503
    document = client.get("/openapi.json").json
    assert "/v2/health/ready" in document["paths"]
    assert "/v1/models/flights:predict" not in document["paths"]


@pytest.mark.parametrize("prefix", ["", "/svc/headrace/flights"])
@pytest.mark.parametrize("path", PAGES)
def test_the_links_of_a_page_lead_somewhere_under_any_prefix(client: Client, path: str, prefix: str) -> None:
    text = client.get(path).text
    links = [*re.findall(r'(?:src|href)="([^"]+)"', text), *re.findall(r'url: "([^"]+)"', text)]
    assert len(links) == 4
    for link in links:
        found = urlsplit(urljoin(f"http://gateway{prefix}{path}", link)).path
        assert found.startswith(prefix)
        assert client.get(found.removeprefix(prefix)).status_code == 200, link


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_server_of_a_document_is_the_one_that_it_came_from_under_any_prefix(client: Client, path: str) -> None:
    root = client.get(path).json["servers"][0]["url"]
    assert (
        urljoin(f"http://gateway/svc/headrace/flights{path}", root).rstrip("/") == "http://gateway/svc/headrace/flights"
    )


def test_the_page_asks_no_other_server(client: Client) -> None:
    response = client.get("/docs")
    assert "://" not in response.text
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "index.html"])
def test_nothing_but_the_pages_assets_is_given_out(client: Client, name: str) -> None:
    response = client.get(f"/docs/{name}")
    assert response.status_code == 404
    assert "error" in response.json


def test_without_its_package_the_page_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's absence is what importlib finds, as in an image that was made without it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    catalog = Catalog([])
    route = next(route for route in openapi.ROUTES if route.path == "/docs")
    with pytest.raises(Exception, match="pip install flask-swagger-ui") as refusal:
        route.handle(catalog)
    assert refusal.value.status == 501  # type: ignore[attr-defined]


def test_nothing_of_it_is_imported_before_somebody_asks() -> None:
    code = (
        "import sys, functions.predictor.protocols as protocols\n"
        "list(protocols.routes())\n"
        "late = {f'functions.predictor.openapi.{name}' for name in ('description', 'schemas', 'try_page')}\n"
        "sys.exit(', '.join(sorted((late | {'flask_swagger_ui', 'flask'}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- the page, in a real browser, of a real process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM if CHROMIUM.exists() else None,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def predictor(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[predictors.Predictor]:
    store = Store.open((tmp_path_factory.mktemp("store") / "store").as_uri())
    store.publish(package)
    with predictors.running(store.url) as predictor:
        predictor.until_ready()
        yield predictor


@pytest.mark.parametrize("path", [PAGES[0], PAGES[-1]])
def test_the_page_shows_the_operations_and_trying_one_gets_an_answer(
    browser: Browser, predictor: predictors.Predictor, path: str
) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(predictor.url + path)
    operation = page.locator(".opblock", has_text=":predict").first
    operation.locator(".opblock-summary-control").first.click()
    operation.locator(".execute").click()
    answer = operation.locator(".live-responses-table tbody")
    expect(answer.locator(".response-col_status").first).to_contain_text("200", timeout=20_000)
    expect(answer.locator(".response-col_description").first).to_contain_text("predictions")
    assert [url for url in asked if not url.startswith((predictor.url, "data:"))] == []
    assert errors == []
    page.close()
