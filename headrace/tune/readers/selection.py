"""Which of many: a recording of a whole platform holds many functions, and a setting is tried on one."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.tune.traffic import BadTraffic

SHOWN = 5


def choose(counts: Mapping[str, float], only: str | None, what: str) -> str:
    """The one name that `only` means: by itself in full or as the beginning of one name, or the only one there is.

    counts: requests under each name. Raises BadTraffic naming the busiest where it means none or several.
    """
    if only is None and len(counts) == 1:
        return next(iter(counts))
    if only is not None and only in counts:
        return only
    meant = [name for name in counts if only is not None and only and name.startswith(only)]
    if len(meant) == 1:
        return meant[0]
    busiest = sorted(counts, key=lambda name: -counts[name])[:SHOWN]
    listed = ", ".join(f"{name} ({counts[name]:,.0f} requests)" for name in busiest)
    if only is None:
        reason = f"the recording holds {len(counts):,} {what}s, and settings are tried on one"
    else:
        reason = f"{only!r} is the name of {'no' if not meant else 'more than one'} {what}"
    raise BadTraffic(f"{reason}; name one with the option only; the busiest are: {listed or 'none'}")
