"""An event as the laptop keeps it: attributes as JSON values, data as the bytes that came.

Used by the Broker, its journal and the JobSink. Data is kept unread: a broker carries whatever it is given, and a
subscriber gets byte for byte what the sender posted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from cloudevents.core.v1.event import CloudEvent

from eventing import binding
from eventing.errors import Rejected


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event.

    attributes: as in the JSON format, `time` a text. data: empty where the event has none.
    """

    attributes: Mapping[str, Any]
    data: bytes = b""

    @classmethod
    def of(cls, event: CloudEvent) -> StoredEvent:
        message = binding.to_binary(event)
        attributes = binding.to_json(CloudEvent(dict(event.get_attributes()), None))
        if "time" not in event.get_attributes():
            attributes.pop("time")  # the SDK's present, see binding
        if "content-type" in message.headers:  # structured data without a type is JSON, and must say so as bytes
            attributes["datacontenttype"] = message.headers["content-type"]
        return cls(attributes, message.body)

    @property
    def id(self) -> str:
        return str(self.attributes["id"])

    @property
    def source(self) -> str:
        return str(self.attributes["source"])

    @property
    def type(self) -> str:
        return str(self.attributes["type"])

    def optional(self, name: str) -> str | None:
        """The attribute as a text; None where the event has none."""
        value = self.attributes.get(name)
        return None if value is None else str(value)

    def with_attributes(self, **attributes: Any) -> StoredEvent:
        return StoredEvent({**self.attributes, **attributes}, self.data)

    def binary(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the binary mode."""
        message = binding.to_binary(self._cloud_event())
        return message.headers, message.body

    def structured(self) -> tuple[dict[str, str], bytes]:
        """Headers and body of the structured mode."""
        return {"content-type": binding.STRUCTURED}, orjson.dumps(self.json())

    def json(self) -> dict[str, Any]:
        """The event as the object of the JSON format: data as a JSON value or a text where it is one, else base64."""
        if not self.data:
            return dict(self.attributes)
        if self.attributes.get("datacontenttype") == "application/json":
            try:
                return {**self.attributes, "data": orjson.loads(self.data)}
            except ValueError:
                return binding.to_json(self._cloud_event())
        try:
            return binding.to_json(binding.receive(*self.binary())[0])
        except Rejected:  # its data is not what it says it is; it was carried all the same
            return binding.to_json(self._cloud_event())

    def _cloud_event(self) -> CloudEvent:
        attributes = dict(self.attributes)
        timed = "time" in attributes
        if timed:
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        event = CloudEvent(attributes, self.data or None)
        if not timed:
            event.get_attributes().pop("time")
        return event
