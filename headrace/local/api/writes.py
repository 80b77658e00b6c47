"""The write path of the laptop's Kubernetes API: decode, patch, default, judge, record who set what, store.

`headrace.local.api.api` calls it with parsed requests; a write is refused with every fault at once, or done whole.
Source: kubernetes/apiserver pkg/endpoints/handlers/{create,update,patch,delete}.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace.local.api import admission, api_request, openapi, ownership, patches, schema
from headrace.local.api.api_request import BadRequest, Target
from headrace.local.objects import objects
from headrace.local.objects.object_errors import Invalid, NotFound, ObjectError

Object = dict[str, Any]
Admit = Callable[[dict[str, Any]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the query of a write says.

    field_manager: whom the changes are recorded for. field_validation: "Strict", "Warn" or "Ignore" unknown fields.
    warnings: filled with what the client should be told although the write was done.
    """

    field_manager: str
    dry_run: bool = False
    field_validation: str = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)


class Writes:
    """Writes to `store`, judged. admit: further faults of an object (autoscaling annotations), as sentences."""

    def __init__(self, store: objects.Objects, admit: Admit | None, clock: Callable[[], datetime]) -> None:
        self._objects = store
        self._admit = admit
        self._clock = clock

    def create(self, target: Target, body: bytes, options: Options) -> Object:
        value, twice = api_request.decode(body)
        new = self._expect(target, api_request.as_object(value))
        if new["metadata"].get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        new["metadata"].pop("managedFields", None)
        return self._create(target, new, twice, options)

    def update(self, target: Target, body: bytes, options: Options) -> Object:
        value, twice = api_request.decode(body)
        new = self._expect(target, api_request.as_object(value))
        return self._update(target, self._live(target), new, twice, options)

    def patch(self, target: Target, content_type: str, body: bytes, options: Options) -> tuple[Object, bool]:
        """The object, and whether it was created (server-side apply alone does that)."""
        value, twice = api_request.decode(body)
        if content_type == openapi.APPLY_PATCH:
            return self._apply(target, value, twice, options)
        live = self._live(target)
        try:
            if content_type == openapi.MERGE_PATCH:
                patched = patches.merge(live, value)
            elif content_type == openapi.JSON_PATCH:
                patched = patches.json_patch(live, value)
            elif content_type == openapi.STRATEGIC_PATCH and target.kind.builtin:
                patched = patches.strategic(live, value, schema.patch_type(target.kind.kind))
            else:
                raise _unsupported(content_type)
        except patches.Inapplicable as e:
            raise Invalid(str(e)) from e
        except patches.BadPatch as e:
            raise BadRequest(str(e)) from e
        new = self._expect(target, api_request.as_object(patched))
        return self._update(target, live, new, twice, options), False

    def delete(self, target: Target, query: Mapping[str, str], body: bytes) -> Object:
        """The object as it last was; it is still there when finalizers hold it (then it has a deletionTimestamp)."""
        return self._delete(target, target.name or "", _delete_options(query, body))

    def delete_collection(
        self, target: Target, selected: Sequence[Object], query: Mapping[str, str], body: bytes
    ) -> list[Object]:
        wishes = _delete_options(query, body)
        deleted = []
        for obj in selected:
            meta = obj["metadata"]
            # An owner earlier in the list may have taken it along.
            if self._objects.get(target.kind.kind, meta.get("namespace", ""), meta["name"]):
                here = Target(target.kind, meta.get("namespace"), meta["name"], None)
                deleted.append(self._delete(here, meta["name"], wishes))
        return deleted

    def _delete(self, target: Target, name: str, wishes: Mapping[str, Any]) -> Object:
        if target.kind.kind == "Namespace" and name == "default":
            raise ObjectError(403, "Forbidden", 'namespaces "default" is forbidden: this namespace may not be deleted')
        preconditions = wishes.get("preconditions") or {}
        return self._objects.delete(
            target.kind.kind,
            target.namespace or "",
            name,
            propagation=wishes.get("propagationPolicy") or "Background",
            uid=preconditions.get("uid"),
            resource_version=preconditions.get("resourceVersion"),
            dry_run=bool(wishes.get("dryRun")),
        )

    def _apply(self, target: Target, value: Any, twice: list[str], options: Options) -> tuple[Object, bool]:
        config = self._expect(target, api_request.as_object(value))
        if "managedFields" in config["metadata"]:
            raise BadRequest("metadata.managedFields must be nil")
        live = self._objects.get(target.kind.kind, target.namespace or "", target.name or "")
        config = self._well_formed(target, config, twice, options, partial=live is not None)
        if target.subresource is None:
            config.pop("status", None) if target.kind.status else None
        merged = ownership.apply(live, config, options.field_manager, options.force, objects.timestamp(self._clock()))
        if live is None:
            if target.subresource:
                raise self._not_found(target)
            return self._store_new(target, merged, options), True
        return self._store_changed(target, live, merged, options), False

    def _create(self, target: Target, new: Object, twice: list[str], options: Options) -> Object:
        new = self._well_formed(target, new, twice, options)
        if target.kind.status:
            new.pop("status", None)
        new = ownership.update(None, new, options.field_manager, objects.timestamp(self._clock()))
        return self._store_new(target, new, options)

    def _update(self, target: Target, live: Object, new: Object, twice: list[str], options: Options) -> Object:
        if target.subresource is None:
            new = self._well_formed(target, new, twice, options)
            new = ownership.update(live, new, options.field_manager, objects.timestamp(self._clock()))
        return self._store_changed(target, live, new, options)

    def _store_new(self, target: Target, new: Object, options: Options) -> Object:
        namespace = target.namespace
        if namespace and self._objects.get("Namespace", "", namespace) is None:
            if namespace != admission.CONFIG_NAMESPACE:
                raise NotFound(f'namespaces "{namespace}" not found')
            # Knative's own, which every cluster has; here it is there as soon as somebody needs it.
            about = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            self._objects.create(about, dry_run=options.dry_run)
        # Judged as it would be stored, with its defaults.
        candidate = self._objects.create(new, dry_run=True)
        self._judge(candidate, None)
        return candidate if options.dry_run else self._objects.create(new)

    def _store_changed(self, target: Target, live: Object, new: Object, options: Options) -> Object:
        wrong = schema.check_status(new.get("status", {})) if target.subresource else []
        if wrong:
            raise _invalid(new, wrong)
        candidate = self._objects.update(new, target.subresource, dry_run=True)
        if target.subresource is None and candidate != live:
            self._judge(candidate, live)
        return candidate if options.dry_run else self._objects.update(new, target.subresource)

    def _well_formed(
        self, target: Target, new: Object, twice: Sequence[str], options: Options, partial: bool = False
    ) -> Object:
        """`new` without unknown fields, or the refusal of them and of wrong types.

        partial: what an apply leaves out may be there already, so nothing is called missing yet.
        """
        faults = schema.check(new)
        loose = [fault.message for fault in faults if fault.unknown] + [f'duplicate field "{path}"' for path in twice]
        kind = target.kind
        # Knative's webhooks refuse unknown fields whatever the client asks for.
        if loose and (options.field_validation == "Strict" or kind.group.endswith("knative.dev")):
            raise BadRequest(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}:'
                f" strict decoding error: {', '.join(loose)}"
            )
        if loose and options.field_validation == "Warn":
            options.warnings.extend(loose)
        wrong = [
            fault for fault in faults if not fault.unknown and not (partial and fault.reason == "FieldValueRequired")
        ]
        if not _may_be_judged(wrong):
            raise _invalid(new, wrong)
        unknown = {fault.path for fault in faults if fault.unknown}
        return schema.pruned(new, unknown) if unknown else new

    def _judge(self, new: Object, old: Object | None) -> None:
        wrong = [fault for fault in schema.check(new) if not fault.unknown]
        if _may_be_judged(wrong):
            wrong += [f for f in admission.kubernetes_faults(new, old) if f.path not in {each.path for each in wrong}]
        if wrong:
            raise _invalid(new, wrong)
        if broken := admission.config_faults(new):
            said = "\n".join(broken)
            raise BadRequest(f'admission webhook "config.webhook.serving.knative.dev" denied the request: {said}')
        features = admission.features_on(
            self._objects.get("ConfigMap", admission.CONFIG_NAMESPACE, admission.FEATURES_NAME)
        )
        refused = [*admission.knative_faults(new, old, features), *(self._admit(new) if self._admit else ())]
        if refused:
            room = "eventing" if new["kind"] not in admission.SERVING else "serving"
            raise BadRequest(
                f'admission webhook "validation.webhook.{room}.knative.dev" denied the request: validation failed: '
                + "\n".join(refused)
            )

    def _expect(self, target: Target, new: Object) -> Object:
        """The body, when it is an object of the target's kind, name and namespace; the latter filled in."""
        kind = target.kind
        for key, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
            if new.setdefault(key, expected) != expected:
                raise BadRequest(f"the {key} in the data ({new[key]}) does not match the expected {key} ({expected})")
        meta = new.setdefault("metadata", {})
        if not isinstance(meta, dict):
            raise BadRequest("metadata: expected an object")
        if target.name and meta.setdefault("name", target.name) != target.name:
            raise BadRequest(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({target.name})"
            )
        if kind.namespaced and target.namespace is None:
            raise BadRequest("an empty namespace may not be set during creation")
        if kind.namespaced and meta.setdefault("namespace", target.namespace) != target.namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        return new

    def _live(self, target: Target) -> Object:
        live = self._objects.get(target.kind.kind, target.namespace or "", target.name or "")
        if live is None:
            raise self._not_found(target)
        return live

    def _not_found(self, target: Target) -> NotFound:
        return NotFound(f'{target.kind.qualified} "{target.name}" not found')


def _unsupported(content_type: str) -> ObjectError:
    accepted = ", ".join((openapi.JSON_PATCH, openapi.MERGE_PATCH, openapi.APPLY_PATCH))
    return ObjectError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format ({content_type}) - accepted media types include: {accepted}",
    )


def _invalid(obj: Object, faults: Sequence[schema.Fault]) -> Invalid:
    group, _, _ = obj["apiVersion"].rpartition("/")
    of = f"{obj['kind']}.{group}" if group else obj["kind"]
    said = [f"{fault.path}: {fault.message}" for fault in faults]
    causes = [{"reason": fault.reason, "message": fault.message, "field": fault.path} for fault in faults]
    listed = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    name = str(obj["metadata"].get("name", ""))
    return Invalid(f'{of} "{name}" is invalid: {listed}', causes, name)


def _may_be_judged(faults: Sequence[schema.Fault]) -> bool:
    """Whether rules beyond the schema can be asked of the object: it has what must be there, of the right types."""
    return not {fault.reason for fault in faults} & {"FieldValueRequired", "FieldValueTypeInvalid"}


def _delete_options(query: Mapping[str, str], body: bytes) -> Object:
    wishes: Object = {}
    if body.strip():
        value, _ = api_request.decode(body)
        wishes = value if isinstance(value, dict) else {}
    for key in ("propagationPolicy", "dryRun"):
        if query.get(key):
            wishes[key] = query[key]
    if query.get("orphanDependents") == "true" or wishes.get("orphanDependents"):
        wishes["propagationPolicy"] = "Orphan"
    if wishes.get("propagationPolicy") not in (None, "Background", "Foreground", "Orphan"):
        raise BadRequest(
            f"invalid propagationPolicy {wishes['propagationPolicy']!r}: expected Background, Foreground or Orphan"
        )
    return wishes
