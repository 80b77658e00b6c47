"""The traffic that `headrace tune` was asked to try settings on: files, the laptop's own gateway, or a shape.

Called by `headrace.commands.tune`; formats are the matter of `headrace.tune.readers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eventing.errors import Misconfigured
from headrace.local.gateway import request_files
from headrace.tune import shapes
from headrace.tune.readers import read
from headrace.tune.readers.options import Options
from headrace.tune.together import together
from headrace.tune.traffic import BadTraffic, Traffic

SERVICE_S = 0.1  # of a shape, where nothing is said


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files, a platform's home or a shape, one of the three; and what is to be known of it, as in
    `readers.options.Options`.
    """

    files: tuple[Path, ...] = ()
    home: Path | None = None
    shape: str | None = None
    peak_rps: float = 50.0
    length_s: float = 3600.0
    service_s: float | None = None
    service_from: Path | None = None
    only: str | None = None
    duration_unit: str | None = None
    time_unit: str | None = None
    time_zone: str = "UTC"
    recorded_concurrency: int | None = None
    cold_after_s: float | None = None
    cold_start_from: Path | None = None
    seed: int = 0


def traffic(wanted: Wanted) -> Traffic:
    """The one traffic. Raises Misconfigured for none or several sources, BadTraffic for what cannot be read."""
    sources = sum((bool(wanted.files), wanted.home is not None, wanted.shape is not None))
    if sources != 1:
        seen = "several" if sources else "none"
        raise Misconfigured("traffic", seen, "one of: files, --from-local, or --shape burst --peak-rps 50 to draw some")
    if wanted.shape is not None:
        service_s = SERVICE_S if wanted.service_s is None else wanted.service_s
        return shapes.shape(wanted.shape, wanted.length_s, wanted.peak_rps, service_s, wanted.seed)
    files = wanted.files
    if wanted.home is not None:
        files = (wanted.home / request_files.FOLDER,)
        if not files[0].is_dir():
            raise BadTraffic(f"{wanted.home} holds no journal of requests; expected a platform that has answered some")
    options = Options(
        only=wanted.only,
        duration_unit=wanted.duration_unit,
        time_unit=wanted.time_unit,
        time_zone=wanted.time_zone,
        service_s=wanted.service_s,
        service_from=wanted.service_from,
        cold_start_from=wanted.cold_start_from,
        container_concurrency=wanted.recorded_concurrency,
        cold_after_s=wanted.cold_after_s,
        seed=wanted.seed,
    )
    return together([read(file, options) for file in files])
