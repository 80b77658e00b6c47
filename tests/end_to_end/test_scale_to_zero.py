"""Nobody asks, nothing runs; somebody asks, it is there: how long the way from zero took, by phase."""

from __future__ import annotations

import re
import time

from tests.end_to_end import tables
from tests.end_to_end.conftest import Open
from tests.end_to_end.house import House, until

MODEL = "idle"
PHASES = ("activation", "created", "ready", "answer")  # of the gateway
WINDOW = '{"spec":{"template":{"metadata":{"annotations":{"autoscaling.knative.dev/window":"6s"}}}}}'
