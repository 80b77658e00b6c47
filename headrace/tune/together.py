"""Several recordings as one traffic: of several days, or of several gateways side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.tune.traffic import BadTraffic, Traffic


def together(traffics: Sequence[Traffic]) -> Traffic:
    """All their requests in the order of time, from the first one's second 0 on.

    Raises BadTraffic without any, and where one does not say when it began.
    """
    if not traffics:
        raise BadTraffic("there is no traffic; give a recording, or a shape to draw one")
    if len(traffics) == 1:
        return traffics[0]
    undated = [t.source for t in traffics if t.began is None]
    if undated:
        raise BadTraffic(
            f"{undated[0]} does not say when it began, so it cannot stand beside others; expected times with a date, "
            "or one recording alone"
        )
    dated = [(t.began, t) for t in traffics if t.began is not None]
    began = min(at for at, _ in dated)
    starts_s = np.concatenate([t.starts_s + (at - began).total_seconds() for at, t in dated])
    order = np.argsort(starts_s, kind="stable")
    return Traffic(
        starts_s=starts_s[order],
        service_s=np.concatenate([t.service_s for _, t in dated])[order],
        began=began,
        source=", ".join(t.source for t in traffics),
        cold_start_s=np.concatenate([t.cold_start_s for t in traffics]),
        repairs=tuple(dict.fromkeys(repair for t in traffics for repair in t.repairs)),
    )
