"""The page to try a model at: Swagger UI over an OpenAPI document of ours, without a line from another server.

Its assets are those of the package flask-swagger-ui; nothing of it is read or imported before somebody opens the page.
Source: swagger.io/docs/open-source-tools/swagger-ui/usage/configuration.
"""

from __future__ import annotations

import html
import importlib.util
import json
from pathlib import Path

from functions.predictor.answers import NOT_FOUND, UNSUPPORTED, Answer, Refusal

PACKAGE = "flask-swagger-ui"
# Name to content type: what the page asks for, and all that can be asked for.
ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
# Swagger UI writes styles into its elements and draws with data: images; its script and ours are the only ones.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)
_MAX_AGE_S = 86_400
# validatorUrl: else a button asks validator.swagger.io about our document.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{assets}swagger-ui.css">
<link rel="icon" type="image/png" href="{assets}favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="{assets}swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: {document}, dom_id: "#page", validatorUrl: null, deepLinking: true, tryItOutEnabled: true,
  defaultModelsExpandDepth: 0
}});
</script>
</body>
</html>
"""


def page(title: str, document: str, assets: str) -> Answer:
    """The page. document, assets: where it finds both, from its own path. Raises Refusal (501) without the package."""
    _folder()
    # In a script's text, no name may end it.
    url = json.dumps(document).replace("<", "\\u003c")
    text = _PAGE.format(title=html.escape(title), document=url, assets=html.escape(assets))
    return Answer(200, text.encode(), "text/html; charset=utf-8", (("Content-Security-Policy", _POLICY),))


def asset(name: str) -> Answer:
    """One of the page's files. Raises Refusal."""
    if name not in ASSETS:
        raise Refusal(NOT_FOUND, f"{name!r:.60} is no part of the page; expected {', '.join(ASSETS)}")
    content = (_folder() / name).read_bytes()
    return Answer(200, content, ASSETS[name], (("Cache-Control", f"public, max-age={_MAX_AGE_S}"),))


def _folder() -> Path:
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise Refusal(
            UNSUPPORTED,
            f"there is no page to try models at, for {PACKAGE} is not installed (pip install {PACKAGE}); "
            "the OpenAPI document is at /openapi.json",
        )
    return Path(found.submodule_search_locations[0]) / "dist"
