"""Tell a person what becomes of a dropped file, line by line, while it happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eventing import contract
from headrace import drop as dropping
from headrace import screen, why
from headrace.drop import Dropped
from headrace.journal import Entry
from headrace.place import Place
from headrace.screen import Output


def show_dropped(file: Path, dropped: Dropped) -> None:
    arrived = dropped.arrived
    screen.say(f"dropped {file.name} ({why.size(arrived.bytes)}, sha256 {arrived.sha256[:12]}) as {arrived.dataset}")
    known = "; this very content was dropped before: it will not be learned twice" if dropped.known else ""
    screen.say(f"event   {dropped.event_id}{known}")


def until_done(place: Place, dropped: Dropped, output: Output) -> bool:
    """Follow the consequences of a drop; True when its model serves in the end.

    Of content that was dropped before, what was said then is told again, from the journal.
    """
    after = 0 if dropped.known else dropped.after
    arrived = dropped.arrived
    return follow(place, dropped.event_id, after, output, arrived.sha256, why.file_names(arrived.to_data()))


def follow(
    place: Place,
    event_id: str,
    after: int,
    output: Output,
    sha256: str | None = None,
    names: Mapping[str, str] | None = None,
) -> bool:
    """Tell every consequence of `event_id` until one that ends it; True for a good end. names: see `why.named`."""
    with screen.progress() as bar:
        task = bar.add_task("waiting for the training Job", total=1.0)
        for entry in dropping.consequences(place, event_id, after, sha256):
            if entry.type == contract.TrainingProgressed.TYPE:
                bar.update(task, completed=float(entry.data["done"]), description=str(entry.data["step"]))
            _show(entry, output, names or {})
            if dropping.is_end(entry):
                return entry.type in dropping.GOOD_ENDS
            if entry.type == contract.ModelTrained.TYPE:
                bar.update(task, completed=1.0, description="gate, canary")
    return False


def _show(entry: Entry, output: Output, names: Mapping[str, str]) -> None:
    if output is Output.json:
        screen.json_line(entry.event)
        return
    screen.say(f"{screen.clock(entry.received)}  {why.noun(entry):9}  {why.named(why.describe(entry), names)}")
    if entry.type == contract.DatasetRejected.TYPE:
        reasons = entry.data.get("reasons") or []
        for reason in reasons[:10]:
            screen.say(f"              {why.reason(reason)}")
        if len(reasons) > 10:
            screen.say(f"              and {len(reasons) - 10} more: headrace why {entry.id}")
