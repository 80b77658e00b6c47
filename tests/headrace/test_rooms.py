import subprocess
import sys
from pathlib import Path

import pytest

from headrace import rooms
from tests.processes import asked, known_settings


def test_our_own_rooms_pass() -> None:
    rooms.verify()


def test_the_variables_of_the_house_are_those_that_its_processes_read() -> None:
    read = {key for settings in known_settings().values() for key in asked(settings) if key.startswith("HEADRACE_")}
    assert read <= rooms.variables()
    assert "HEADRACE_CANARY" not in rooms.variables()


def test_a_room_taken_from_elsewhere_is_named_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(rooms.Shadowed) as raised:
        rooms.verify(tmp_path)
    assert str(tmp_path / "functions") in str(raised.value)
    assert "environment of its own" in str(raised.value)


def test_a_shadowed_room_stops_the_command_line_with_one_clear_sentence(tmp_path: Path) -> None:
    stranger = tmp_path / "eventing"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from headrace import cli"
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert seen.returncode == 1
    assert f"package 'eventing' is taken from {stranger}" in seen.stderr
    assert "Traceback" not in seen.stderr
