"""Every model and version in the store, what serves, how good it is."""

from __future__ import annotations

from typing import Any

from headrace.place import Place

SCORES = ("roc_auc", "accuracy")


def rows(place: Place) -> list[dict[str, Any]]:
    """One row per version, newest first within its model. Raises RetryLater when the store is away."""
    store = place.store
    return [
        _row(store.manifest(model, version), serving)
        for model in store.models()
        for serving in [store.serving(model)]
        for version in reversed(store.versions(model))
    ]


def _row(manifest: Any, serving: Any) -> dict[str, Any]:
    parity = manifest.parity
    mark = "yes" if serving and serving.version == manifest.version else ""
    agreement = f"{parity.get('rows')} rows, {parity.get('label_flips')} flips"
    return {
        "model": manifest.name,
        "version": manifest.version,
        "serves": mark or ("before" if serving and serving.previous == manifest.version else ""),
        "trainer": manifest.trainer,
        **{s: round(manifest.scores[s], 4) if s in manifest.scores else None for s in SCORES},
        "rows": manifest.dataset.get("rows"),
        "parity": f"{agreement}, {parity.get('largest_difference'):.1e}",
        "created": manifest.created,
        "parent": manifest.parent,
    }
