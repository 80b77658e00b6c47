"""What a Trigger and its Broker come to: which events, to which address, by which rules; and what their status says.

Pure. The Broker makes a Subscription of every Trigger whenever an object it hangs on comes or goes, routes and delivers
by it, and writes its status from it.
Source: knative/eventing pkg/reconciler/broker/trigger/trigger.go, pkg/apis/eventing/v1/{broker,trigger}_lifecycle.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.local.addresses import Addresses
from headrace.local.events import conditions, delivery, filters
from headrace.local.events.conditions import TRUE, Conditions

BROKER_CLASS = "MTChannelBasedBroker"
BROKER_CLASS_KEY = "eventing.knative.dev/broker.class"

Object = Mapping[str, Any]
Exists = Callable[[str, str, str], bool]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a destination is.

    url: None where nothing answers there yet; `fault` says why. intended: the URL all the same, where one can be told.
    """

    url: str | None
    fault: str = ""
    intended: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One Trigger, ready to route and deliver by.

    matches: None where its filters cannot be evaluated; then it gets nothing. dead_letter: None where none is set.
    invalid: reason and message of what is wrong with the spec.
    """

    uid: str
    namespace: str
    name: str
    broker: str
    broker_exists: bool
    subscriber: Address
    dead_letter: Address | None
    delivery: delivery.DeliverySpec
    matches: filters.Matcher | None
    invalid: tuple[str, str] | None = None


def subscription(trigger: Object, broker: Object | None, addresses: Addresses, exists: Exists) -> Subscription:
    """The Subscription of a Trigger. broker: the one it names, None when absent. exists(kind, namespace, name)."""
    meta, spec = trigger["metadata"], trigger["spec"]
    namespace = meta["namespace"]
    matches: filters.Matcher | None = None
    invalid = None
    broker_delivery = None if broker is None else broker.get("spec", {}).get("delivery")
    rules = delivery.DeliverySpec()
    try:
        rules = delivery.spec_of(spec.get("delivery"), broker_delivery)
        matches = filters.matcher(spec)
    except filters.InvalidFilter as e:
        invalid = ("InvalidFilter", str(e))
    except delivery.InvalidDelivery as e:
        invalid = ("InvalidDelivery", str(e))
    dead_letter_sink = rules.dead_letter_sink
    return Subscription(
        uid=meta["uid"],
        namespace=namespace,
        name=meta["name"],
        broker=broker_name(trigger),
        broker_exists=broker is not None,
        subscriber=resolve(spec.get("subscriber") or {}, namespace, addresses, exists),
        dead_letter=None if dead_letter_sink is None else resolve(dead_letter_sink, namespace, addresses, exists),
        delivery=rules,
        matches=matches,
        invalid=invalid,
    )


def broker_name(trigger: Object) -> str:
    spec = trigger["spec"]
    return str(spec.get("broker") or (spec.get("brokerRef") or {}).get("name") or "default")


def resolve(destination: Object, namespace: str, addresses: Addresses, exists: Exists) -> Address:
    """The address of a destination that has one now."""
    ref = destination.get("ref")
    try:
        url = addresses.destination(dict(destination), namespace)
    except (ValueError, KeyError) as e:
        return Address(None, f"the destination cannot be addressed: {e}")
    if ref is not None and not exists(ref["kind"], ref.get("namespace") or namespace, ref["name"]):
        return Address(None, f'{ref["kind"]} "{ref["name"]}" does not exist', url)
    return Address(url, intended=url)


def trigger_status(trigger: Object, of: Subscription, now: datetime) -> dict[str, Any]:
    """The Trigger's status."""
    parts: Conditions = {
        "BrokerReady": TRUE,
        "DeadLetterSinkResolved": _dead_letter_condition(of.dead_letter),
        "DependencyReady": TRUE,
        "SubscriberResolved": TRUE,
        "SubscriptionReady": TRUE,
    }
    if not of.broker_exists:
        parts["BrokerReady"] = ("False", "BrokerDoesNotExist", f'Broker "{of.broker}" does not exist')
    if of.subscriber.url is None:
        parts["SubscriberResolved"] = ("False", "Unable to get the Subscriber's URI", of.subscriber.fault)
    if of.invalid is not None:
        parts["SubscriptionReady"] = ("False", *of.invalid)
    fields: dict[str, Any] = {}
    if of.subscriber.url is not None:
        fields["subscriberUri"] = of.subscriber.url
    if of.dead_letter is not None and of.dead_letter.url is not None:
        fields["deadLetterSinkUri"] = of.dead_letter.url
    order = ("BrokerReady", "SubscriptionReady", "SubscriberResolved", "DeadLetterSinkResolved", "DependencyReady")
    return conditions.status(trigger, fields, parts, order, now)


def broker_status(broker: Object, addresses: Addresses, exists: Exists, now: datetime) -> dict[str, Any]:
    """The Broker's status. Ingress, filter and channel are this process: they are up when it can say so."""
    meta = broker["metadata"]
    sink = (broker.get("spec", {}).get("delivery") or {}).get("deadLetterSink")
    dead_letter = None if sink is None else resolve(sink, meta["namespace"], addresses, exists)
    fields: dict[str, Any] = {"address": {"name": "http", "url": addresses.broker(meta["namespace"], meta["name"])}}
    if dead_letter is not None and dead_letter.url is not None:
        fields["deadLetterSinkUri"] = dead_letter.url
    parts: Conditions = {
        "Addressable": TRUE,
        "DeadLetterSinkResolved": _dead_letter_condition(dead_letter),
        "FilterReady": TRUE,
        "IngressReady": TRUE,
        "TriggerChannelReady": TRUE,
    }
    return conditions.status(broker, fields, parts, tuple(parts), now)


def _dead_letter_condition(dead_letter: Address | None) -> tuple[str, str, str]:
    if dead_letter is None:
        return ("True", "DeadLetterSinkNotConfigured", "No dead letter sink is configured.")
    if dead_letter.url is None:
        return ("False", "Unable to get the dead letter sink's URI", dead_letter.fault)
    return TRUE
