"""The environment is read once, and a bad value is refused with its key."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eventing import settings
from eventing.errors import Misconfigured


@pytest.mark.parametrize("seen", ["x", "0", "11", "1.5"])
def test_a_number_out_of_bounds_names_its_key_and_its_bounds(seen: str) -> None:
    with pytest.raises(Misconfigured, match=r"N is .*from 1 to 10"):
        settings.whole_number({"N": seen}, "N", 5, 1, 10)
    with pytest.raises(Misconfigured, match="N is 'nan'"):
        settings.number({"N": "nan"}, "N", 5, 1, 10)


def test_an_absent_or_blank_value_is_the_default() -> None:
    assert settings.number({"N": " "}, "N", 5, 1, 10) == 5
    assert settings.text({}, "T", "a text", "usual") == "usual"
    with pytest.raises(Misconfigured, match="T is None; expected a text"):
        settings.text({}, "T", "a text")


@pytest.mark.parametrize(("environ", "host"), [({}, "127.0.0.1"), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "0.0.0.0")])
def test_a_process_listens_to_all_in_a_pod_and_to_the_loopback_elsewhere(environ: dict[str, str], host: str) -> None:
    assert settings.host(environ) == host


@pytest.mark.parametrize("module", ["eventing.source", "functions.drift_watch", "functions.dead_letters"])
def test_a_process_that_cannot_work_ends_with_78_and_says_why(module: str) -> None:
    seen = subprocess.run([sys.executable, "-m", module], env={}, capture_output=True, text=True, check=False)
    assert seen.returncode == 78
    assert "HEADRACE_" in seen.stderr and "Traceback" not in seen.stderr
