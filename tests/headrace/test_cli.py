"""The command line: what it says to a person, what it gives a program, and how it ends."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from headrace import cli
from headrace.config import Config
from headrace.place import Place
from tests.running import Platform, flights_csv, platform

running = pytest.fixture(scope="module")(platform)


def _commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield from _commands(command, *names, name) if hasattr(command, "commands") else (((*names, name), command),)


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


@pytest.fixture
def nowhere(tmp_path: Path) -> Platform:
    """A home in which nothing runs."""
    return Platform(tmp_path / "home")


@pytest.fixture(scope="module")
def served(running: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform that serves the model `flights`."""
    running.train(tmp_path_factory.mktemp("served"))
    return running


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


Typed = Callable[..., Done]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """`typed(platform, *words, input=…)`: the entry point in this process; to start one takes longer than a test."""

    def run(platform: Platform, *words: str, input: str = "") -> Done:
        for key in [k for k in os.environ if k.startswith("HEADRACE_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("HEADRACE_HOME", str(platform.home))
        monkeypatch.setattr(sys, "argv", ["headrace", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        status: Any = 0
        try:
            cli.main()
        except SystemExit as e:
            status = e.code or 0
        return Done(status, *capsys.readouterr())

    return run


# ---------------------------------------------------------------- help


def test_the_commands_are_those_of_the_contract() -> None:
    contract = (
        "up down status url drop train models predict send events why logs promote rollback tune check demo deploy "
        "undeploy"
    )
    letters = {("dead-letters", name) for name in ("list", "show", "replay")}
    assert set(COMMANDS) == {(name,) for name in contract.split()} | letters


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_an_example_of_it(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*words, "--help"], prog_name="headrace")
    assert shown.exit_code == 0
    assert re.search(rf"Example: .*headrace {' '.join(words)}", shown.output), shown.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_that_acts_in_a_place_says_how_another_is_named(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, [*words, "--help"], prog_name="headrace").output
    assert ("--context" in shown) is (words[0] not in ("up", "down", "train", "check", "demo"))


def test_the_list_of_commands_cuts_no_sentence_off() -> None:
    assert "..." not in CliRunner().invoke(cli.app, ["--help"], prog_name="headrace").output.split("Commands:")[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_has_a_variable_of_its_name(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert str(parameter.envvar).startswith("HEADRACE_"), parameter.opts


def test_without_a_command_it_says_which_there_are(typed: Typed, nowhere: Platform) -> None:
    done = typed(nowhere)
    assert done.status == 2
    assert "Commands:" in done.out + done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_it(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else the shell is the one that the suite was started from, whichever is asked for.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    shown = CliRunner().invoke(cli.app, ["--show-completion", shell], prog_name="headrace")
    assert shown.exit_code == 0, shown.output
    assert "_HEADRACE_COMPLETE" in shown.output
    assert {"bash": "complete -o", "zsh": "compdef", "fish": "complete --command"}[shell] in shown.output


# ---------------------------------------------------------------- misuse is 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["drop"], "Missing argument"),
        (["drop", __file__], "--dataset"),
        (["drop", "absent.csv", "--dataset", "flights"], "absent.csv"),
        (["events", "-o", "yaml"], "'yaml'"),
        (["train", "absent.csv", "--trainer", "random_forest"], "absent.csv"),
        (["up", "--detach", "--port", "99999"], "65535"),
        (["up", "--detach", "--set", "CANARY"], "'CANARY' is not KEY=VALUE"),
        (["up", "--detach", "--image", "=python"], "'=python' is not KEY=VALUE"),
        (["send", "absent.json"], "absent.json: No such file"),
        (["--kubeconfig", "absent", "status"], "HEADRACE_KUBECONFIG is 'absent'"),
        (["--home", __file__, "status"], "expected a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_ends_with_2_and_says_what_was_seen(
    typed: Typed, nowhere: Platform, words: list[str], named: str
) -> None:
    done = typed(nowhere, *words)
    assert (done.status, done.out) == (2, "")
    assert named in done.err
    assert "Traceback" not in done.err
    assert not nowhere.home.exists()


def test_a_file_that_is_no_kubeconfig_is_misuse(typed: Typed, nowhere: Platform, tmp_path: Path) -> None:
    for text in ("just words", "- a\n- list\n", "contexts: [flights]\n", "{"):
        (tmp_path / "kubeconfig").write_text(text, encoding="utf-8")
        done = typed(nowhere, "--kubeconfig", str(tmp_path / "kubeconfig"), "status")
        assert (done.status, done.out) == (2, ""), text
        assert "expected a kubeconfig" in done.err
        assert "Traceback" not in done.err


def test_it_tells_its_version(typed: Typed, nowhere: Platform) -> None:
    assert typed(nowhere, "--version").out == f"headrace {importlib.metadata.version('headrace')}\n"


# ---------------------------------------------------------------- train, without a platform


def test_a_training_here_and_now_that_fails_says_why_to_a_person_too(nowhere: Platform, tmp_path: Path) -> None:
    file = flights_csv(tmp_path / "january.csv", rows=40)
    with file.open("a", encoding="utf-8") as more:
        more.write("far,12,AA,0\n")
    done = nowhere.call("train", str(file), "--trainer", "random_forest", "--target", "late")
    assert (done.returncode, json.loads(done.stdout)["broken_rows"]) == (1, 1)
    assert "line 42: 'far' is not a number" in done.stderr


@pytest.mark.parametrize(
    ("words", "environ", "named"),
    [
        (["--out", "{file}/below"], {}, "below cannot be written to: Not a directory"),
        (["--out", "out"], {"HEADRACE_MAX_DATASET_BYTES": "100"}, "at most 100 are taken"),
        (["--out", "out"], {"HEADRACE_MAX_DATASET_BYTES": "many"}, "HEADRACE_MAX_DATASET_BYTES is 'many'"),
    ],
)
def test_a_training_here_and_now_says_what_keeps_it_from_beginning(
    nowhere: Platform, tmp_path: Path, words: list[str], environ: dict[str, str], named: str
) -> None:
    file = flights_csv(tmp_path / "january.csv", rows=400)
    filled = [word.format(file=file) for word in words]
    command = [
        sys.executable,
        "-m",
        "headrace.cli",
        "train",
        str(file),
        "--trainer",
        "random_forest",
        "--target",
        "late",
    ]
    done = subprocess.run(
        [*command, "--parameter", "n_estimators=5", *filled],
        env=nowhere.environ | environ, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (2 if "many" in named else 1)
    assert named in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- no platform


@pytest.mark.parametrize("words", [["status"], ["models", "-o", "json"], ["url", "broker"], ["why", "x"]], ids=" ".join)
def test_without_a_platform_it_says_how_to_start_one(typed: Typed, nowhere: Platform, words: list[str]) -> None:
    done = typed(nowhere, *words)
    assert (done.status, done.out) == (1, "")
    assert "start one with `headrace up`" in done.err
    assert str(nowhere.home) in done.err


def test_stopping_what_does_not_run_is_no_failure(typed: Typed, nowhere: Platform) -> None:
    done = typed(nowhere, "down")
    assert done.status == 0
    assert "no platform runs" in done.out


def test_a_setting_that_nothing_reads_is_told_with_the_one_that_is_meant(nowhere: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # it shall not start
        port = str(taken.getsockname()[1])
        words = ("--set", "HEADRACE_CANARY=5", "--set", "HEADRACE_CANARY_S=5", "--set", "AWS_REGION=x")
        done = nowhere.call("up", "--detach", "--port", port, *words)
    (said,) = (line for line in done.stderr.splitlines() if "--set" in line)
    assert said == "--set HEADRACE_CANARY: nothing here reads a setting of that name; is HEADRACE_CANARY_S meant?"


@pytest.mark.parametrize("command", [("up", "--detach"), ("deploy", "--dry-run")])
def test_values_that_a_part_would_end_for_are_refused_before_anything_begins(
    typed: Typed, nowhere: Platform, tmp_path: Path, command: tuple[str, ...]
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}  # it is not asked
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {}}]
    kubeconfig.write_text(
        json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "c"})
    )
    where = ("--kubeconfig", str(kubeconfig)) if command[0] == "deploy" else ()
    done = typed(nowhere, *where, *command, "--set", "HEADRACE_CANARY_S=soon", "--set", "HEADRACE_THREADS=0")
    assert (done.status, done.out) == (1, "")
    assert "--set HEADRACE_CANARY_S is 'soon'; expected a number from 0 to 86400" in done.err
    assert "--set HEADRACE_THREADS is '0'; expected a whole number from 1 to 256" in done.err
    assert not nowhere.home.exists()


def test_a_port_that_is_taken_is_said_so_without_a_log_line_around_it(nowhere: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = nowhere.call("up", "--detach", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the platform did not start: port {port} of 127.0.0.1 cannot be had" in done.stderr
    assert "--port" in done.stderr


def test_a_home_that_cannot_be_made_is_said_so(typed: Typed, nowhere: Platform, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    done = typed(nowhere, "--home", str(home), "up", "--detach")
    assert (done.status, done.out) == (1, "")
    assert f"the home {home} cannot be used: Not a directory" in done.err


# ---------------------------------------------------------------- with a platform


def test_a_second_platform_in_the_same_home_is_refused_with_what_to_do(running: Platform) -> None:
    done = running.call("up", "--detach", "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    for word in (str(running.home), "already", "headrace down", "--home"):
        assert word in done.stderr
    assert running.call("status").returncode == 0


def test_the_home_may_be_named_after_the_command(running: Platform, nowhere: Platform) -> None:
    assert nowhere.run("url", "api", "--home", str(running.home)) == running.run("url", "api")


@pytest.mark.parametrize("words", [("--home", "OTHER", "down"), ("down", "--home", "OTHER"), ("down", "--home=OTHER")])
def test_an_option_wins_over_the_environment_also_of_what_stops_a_platform(
    typed: Typed, running: Platform, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = typed(running, *(word.replace("OTHER", str(tmp_path / "other")) for word in words))
    assert (done.status, done.out) == (0, f"no platform runs in {tmp_path / 'other'}\n")
    assert running.call("status").returncode == 0


@pytest.mark.parametrize("what", ["broker", "jobsink/random-forest", "console", "api", "promoter"])
def test_url_prints_one_url_and_nothing_else(typed: Typed, running: Platform, what: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\S*\n", typed(running, "url", what).out)


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["models"],
        ["events"],
        ["why", "{version}"],
        ["dead-letters", "list"],
        ["predict", "flights", "--rows", "{rows}"],
    ],
    ids=" ".join,
)
def test_what_prints_data_prints_json_on_request(
    typed: Typed, served: Platform, tmp_path: Path, words: list[str]
) -> None:
    version = json.loads(typed(served, "models", "-o", "json").out)[0]["version"]
    rows = tmp_path / "rows.json"
    rows.write_text('[{"distance": 1400, "hour": 17, "carrier": "B6"}]', encoding="utf-8")
    filled = [word.format(version=version, rows=rows) for word in words]
    lines = typed(served, *filled, "-o", "json").out.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict | list) for line in lines)


def test_waiting_for_content_known_already_tells_it_again_and_draws_no_bar(served: Platform, tmp_path: Path) -> None:
    """The same file: what followed its first drop, as JSON lines, and silence on stderr."""
    served.train(tmp_path)
    words = ("--dataset", "flights", "--target", "late", "--parameter", "n_estimators=10", "--wait", "-o", "json")
    done = served.call("drop", str(tmp_path / "january.csv"), *words)
    assert (done.returncode, done.stderr) == (0, "")
    first, *following = map(json.loads, done.stdout.splitlines())
    assert first["known"] is True
    assert following[-1]["type"] == "dev.headrace.model.promoted.v1"


def test_rows_come_from_csv_json_lines_or_stdin_alike(served: Platform, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("distance,hour,carrier\n1400,17,B6\n,6,DL\n", encoding="utf-8")
    lines = '{"distance": 1400, "hour": 17, "carrier": "B6"}\n{"distance": null, "hour": 6, "carrier": "DL"}\n'
    from_table = json.loads(served.run("predict", "flights", "--rows", str(table), "-o", "json"))
    from_stdin = json.loads(served.call("predict", "flights", "-o", "json", input=lines).stdout)
    assert len(from_table) == 2
    assert from_table == from_stdin


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["url", "absent"], ["'absent'", "promoter", "flights"]),
        (["predict", "absent"], ["'absent'", "flights"]),
        (["promote", "flights", "v0"], ["v0", "there are: v2"]),
        (["promote", "absent"], ["'absent'", "flights"]),
        (["rollback", "flights"], ["flights has served no version before"]),
        (["why", "nothing-like-it"], ["'nothing-like-it'", "headrace events"]),
        (["dead-letters", "show", "absent"], ["'absent'"]),
        (["drop", __file__, "--dataset", "flights"], [".csv"]),
        (["drop", __file__, "--dataset", "Not A Name"], ["Not A Name", "lower-case"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_ends_with_1_and_says_what_there_is(
    typed: Typed, served: Platform, words: list[str], named: list[str]
) -> None:
    done = typed(served, *words, input='[{"distance": 1400, "hour": 17, "carrier": "B6"}]')
    assert (done.status, done.out) == (1, "")
    for word in named:
        assert word in done.err
    assert "Traceback" not in done.err


def test_a_row_that_does_not_fit_is_named(typed: Typed, served: Platform) -> None:
    done = typed(served, "predict", "flights", input='[{"distance": 1400, "hour": 17}]')
    assert (done.status, done.out) == (1, "")
    assert "'carrier' is missing" in done.err
    assert "row 0" in done.err


def test_an_event_that_breaks_the_contract_never_leaves(served: Platform) -> None:
    event = {
        "specversion": "1.0",
        "id": "broken",
        "source": "/test",
        "subject": "flights",
        "type": "dev.headrace.prediction.requested.v1",
        "data": {"model": "flights"},
    }
    done = served.call("send", "-", input=json.dumps(event))
    assert (done.returncode, done.stdout) == (1, "")
    assert "data.inputs is missing" in done.stderr
    assert "broken" not in served.run("events", "-o", "json")


def test_a_file_that_is_refused_keeps_no_other_from_being_dropped(
    typed: Typed, served: Platform, tmp_path: Path
) -> None:
    empty, good = tmp_path / "empty.csv", flights_csv(tmp_path / "march.csv", rows=33)
    empty.touch()
    done = typed(served, "drop", str(empty), str(good), "--dataset", "flights", "--parameter", "seed=3", "-o", "json")
    assert done.status == 1
    assert "empty.csv is empty" in done.err
    assert json.loads(done.out)["name"] == "march.csv"


def test_a_file_that_was_learned_from_can_be_asked_about_as_it_is(
    typed: Typed, served: Platform, tmp_path: Path
) -> None:
    file = flights_csv(tmp_path / "january.csv", rows=50)
    text = file.read_text(encoding="utf-8").replace(",", ";")
    file.write_text(re.sub(r"\n\d+;", "\n?;", text, count=1), encoding="utf-8")
    done = typed(served, "predict", "flights", "--rows", str(file), "-o", "json")
    assert (done.status, len(json.loads(done.out))) == (0, 50), done.err
    assert done.err == "left out, no inputs of flights: late\n"


def test_a_row_that_does_not_fit_is_counted_from_the_first_one_asked(typed: Typed, served: Platform) -> None:
    rows = [{"distance": 1400, "hour": 17, "carrier": "B6"}] * 1000
    done = typed(served, "predict", "flights", input=json.dumps([*rows, {"distance": 1400, "hour": 17}]))
    assert done.status == 1
    assert "its row 0 is row 1001 of what was asked" in done.err


def test_the_source_of_files_has_a_log_like_all_else_that_status_shows(typed: Typed, served: Platform) -> None:
    done = typed(served, "logs", "folder")
    assert done.status == 0
    assert f"watching {served.home / 'drop'}" in done.out


def test_what_cannot_be_printed_is_said_in_one_sentence_and_what_cannot_be_spelled_is_spelled_otherwise(
    served: Platform,
) -> None:
    command = [sys.executable, "-m", "headrace", "why", "flights-00001"]
    environ = served.environ | {"PYTHONIOENCODING": "ascii"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "headrace: [Errno 28] No space left on device\n")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u25ba" in done.stdout


def test_a_parameter_without_a_value_is_misuse(typed: Typed, served: Platform, tmp_path: Path) -> None:
    file = flights_csv(tmp_path / "february.csv", rows=30)
    done = typed(served, "drop", str(file), "--dataset", "flights", "--parameter", "n_estimators")
    assert (done.status, done.out) == (2, "")
    assert "'n_estimators' is not KEY=VALUE" in done.err


# ---------------------------------------------------------------- tune


def test_the_present_setting_is_that_of_the_service_as_it_runs(served: Platform, typed: Typed) -> None:
    words = ("--shape", "steady", "--peak-rps", "5", "--length", "1m", "--settings", "1", "-o", "json")
    done = typed(served, "tune", *words, "--service", "flights")
    assert done.status == 0, done.err
    present = json.loads(done.out)["present"]
    template = Place.of(Config(served.home, kubeconfig=None)).service("flights")["spec"]["template"]
    assert present["container_concurrency"] == template["spec"]["containerConcurrency"]
    max_scale = "autoscaling.knative.dev/max-scale"
    assert present["annotations"][max_scale] == template["metadata"]["annotations"][max_scale]
    nobody = typed(served, "tune", *words, "--service", "nobody")
    assert (nobody.status, "nobody" in nobody.err) == (1, True)
