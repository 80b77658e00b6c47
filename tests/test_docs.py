"""The documentation can fail: each command, variable, event, metric and example that it shows is looked up or run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import typer.main
import yaml

from eventing import contract, landing
from functions.predictor.statistics import PREDICTIONS
from headrace import cli
from headrace.local.api import schema
from headrace.local.gateway.request_metrics import RequestMetrics
from headrace.local.objects import kinds
from knative import annotations as knative_annotations
from knative.resources import RESOURCES
from monitoring import metrics, predictions
from tests import documents
from tests.documents import HOUSE, PAGES, Block, Command
from tests.processes import ROOMS, SAMPLES, asked, known_settings, required
from tests.running import Platform, flights_csv, platform
from trainers import columns, dataset

DOCS = HOUSE / "docs"
OPS = DOCS / "ops.md"
VARIABLE = re.compile(r"(HEADRACE|K)_[A-Z0-9_]+")
ROOT: Any = typer.main.get_command(cli.app)

running = pytest.fixture(scope="module")(platform)


def shown(program: str) -> list[Command]:
    found = [c for c in documents.commands() if c.words[0].rpartition("/")[2] == program]
    assert found, f"no page shows {program}"
    return found


def ids(item: object) -> str:
    return str(item)


# ---------------------------------------------------------------- pages and commands


def test_each_kind_of_user_has_a_page_that_the_readme_names() -> None:
    pages = {p.name for p in DOCS.glob("*.md")}
    assert pages >= {"data-teams.md", "developers.md", "ops.md", "data-scientists.md", "analysts.md"}
    readme = (HOUSE / "README.md").read_text(encoding="utf-8")
    assert [p for p in sorted(pages) if f"docs/{p}" not in readme] == []


def test_the_readme_is_one_screen() -> None:
    assert len((HOUSE / "README.md").read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in documents.links(page):
        if "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("command", shown("headrace"), ids=ids)
def test_a_headrace_command_is_one_that_the_command_line_takes(command: Command) -> None:
    """Parsed by the command line's own parser: the command, its options, the number of its arguments."""
    here, words = ROOT, cli.hoist(command.words[1:])
    while words and words[0] in cli.PLACE_OPTIONS:
        words = words[2:]
    while subcommands := _subcommands(here):
        name = words.pop(0)
        assert name in subcommands, f"there is no command {name}"
        here = subcommands[name]
    context = here.context_class(here, info_name=here.name, resilient_parsing=True)
    given, too_many, _ = here.make_parser(context).parse_args(words)
    assert not too_many
    missing = [p.name for p in here.params if p.required and not given.get(p.name)]
    assert missing == []


@pytest.mark.parametrize("command", shown("make"), ids=ids)
def test_a_make_target_exists(command: Command) -> None:
    makefile = (HOUSE / "Makefile").read_text(encoding="utf-8")
    for word in command.words[1:]:
        name, given, _ = word.partition("=")
        known = rf"\$\({name}\)|{name} \?=" if given else rf"^{re.escape(name)}:"
        assert re.search(known, makefile, re.MULTILINE), word


@pytest.mark.parametrize("command", shown("kubectl"), ids=ids)
def test_a_kubectl_command_asks_for_kinds_that_are_served(command: Command) -> None:
    served = {n for k in kinds.KINDS for n in (k.plural, k.kind.lower(), *k.short_names)}
    served |= {RESOURCES[kind].plural for kind in ("TrainJob", "TrainingRuntime")}  # of clusters with Kubeflow Trainer
    verb, what = command.words[1], command.words[2]
    assert verb in ("get", "patch", "label", "logs", "explain", "apply", "delete", "describe")
    if verb == "apply" or what in ("-f", "-k"):
        assert what in ("-f", "-k") and (HOUSE / command.words[3]).exists()
        return
    asked_for = what.partition(".")[0] if verb == "explain" else what
    for name in asked_for.split(","):
        assert name.partition("/")[0] in served, name


def test_every_manifest_that_a_page_shows_would_be_taken() -> None:
    seen = 0
    for page in PAGES:
        for block in documents.blocks(page):
            for o in yaml.safe_load_all(block.body) if block.language == "yaml" else ():
                assert schema.check(o) == [], block
                assert knative_annotations.admit(o) == [], block
                seen += 1
    assert seen


def test_every_command_stands_in_some_page() -> None:
    named = {" ".join(c.words[1:]) for c in documents.commands() if c.words[0].endswith("headrace")}
    assert [name for name in _commands() if not any(n == name or n.startswith(f"{name} ") for n in named)] == []


def _commands(group: Any = ROOT, prefix: str = "") -> Iterator[str]:
    for name, command in _subcommands(group).items():
        yield from _commands(command, f"{prefix}{name} ") if _subcommands(command) else (f"{prefix}{name}",)


def _subcommands(command: Any) -> Mapping[str, Any]:
    """By name; none of what is no group."""
    return getattr(command, "commands", {})


# ---------------------------------------------------------------- settings


def test_every_variable_that_the_code_names_stands_in_the_ops_page() -> None:
    page = OPS.read_text(encoding="utf-8")
    assert [v for v in sorted(_variables()) if f"`{v}`" not in page] == []


def test_every_variable_in_the_pages_is_one_that_the_code_names() -> None:
    known = _variables() | {"HEADRACE_POD"}
    for page in PAGES:
        used = {m[0] for m in VARIABLE.finditer(page.read_text(encoding="utf-8"))}
        assert used - known == set(), page.name


def test_every_variable_that_a_process_reads_stands_in_the_settings_with_its_default() -> None:
    documented = _documented_defaults()
    page = OPS.read_text(encoding="utf-8")
    for name, settings in known_settings().items():
        environ = {key: SAMPLES[key] for key in required(settings)}
        for key in sorted(asked(settings)):
            if not key.startswith("HEADRACE_"):
                assert f"`{key}`" in page, (name, key)
                continue
            default = documented[key]
            if key in environ:
                assert default == "*required*", (name, key)
            elif default != "–" and default != "/tmp/headrace":  # the latter is the system's folder, wherever that is
                told = settings.from_environment({**environ, key: default})
                assert told == settings.from_environment(environ), (name, key, default)


def _documented_defaults() -> dict[str, str]:
    rows = [row for row in documents.cells(OPS) if len(row) == 4 and VARIABLE.fullmatch(row[0].strip("`"))]
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


def _variables() -> set[str]:
    """Every text in the code that is an environment variable of ours or Knative's, whole."""
    return {text for text in _texts() if VARIABLE.fullmatch(text)}


@functools.cache
def _texts() -> frozenset[str]:
    """Every text constant in the code of the house."""
    files = (file for room in ROOMS for file in (HOUSE / room).rglob("*.py"))
    found = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return frozenset(node.value for node in found if isinstance(node, ast.Constant) and isinstance(node.value, str))


# ---------------------------------------------------------------- events, metrics, annotations


@pytest.mark.parametrize("type", contract.TYPES)
def test_every_event_type_has_a_schema_and_a_line(type: str) -> None:
    folder = DOCS / "events"
    kept = json.loads((folder / f"{type}.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(contract.TYPES[type].json_schema()))
    assert f"[{type}]({type}.json)" in (folder / "README.md").read_text(encoding="utf-8")


def test_no_schema_is_left_of_a_type_that_is_gone() -> None:
    assert {f.stem for f in (DOCS / "events").glob("*.json")} == set(contract.TYPES)


def test_every_metric_stands_in_the_ops_page_and_no_other() -> None:
    definitions = [m for m in vars(metrics).values() if isinstance(m, prometheus_client.metrics.MetricWrapperBase)]
    registry = prometheus_client.CollectorRegistry()
    predictions.expose(PREDICTIONS.metrics, registry)
    described = [*registry.collect(), *(found for definition in definitions for found in definition.describe())]
    ours = {f"{found.name}_total" if found.type == "counter" else found.name for found in described}
    gateways = {metric.name for metric in RequestMetrics().collect()}
    told = {row[0].strip("`") for row in documents.cells(OPS) if re.match(r"`(headrace|revision|kn)_[a-z_]+`", row[0])}
    assert told == ours | gateways


def test_every_annotation_that_is_set_stands_in_the_ops_page() -> None:
    page = OPS.read_text(encoding="utf-8")
    # The finalizer of a Pod is spelled alike, and nobody reads it.
    found = {text for text in _texts() if re.fullmatch(r"headrace\.dev/[a-z-]+", text)} - {"headrace.dev/process"}
    for file in HOUSE.glob("*/manifests/*.yaml"):
        for o in filter(None, yaml.safe_load_all(file.read_text(encoding="utf-8"))):
            found |= _annotations(o)
    assert len(found) > 8
    assert [a for a in sorted(found) if f"`{a}`" not in page] == []


def test_the_ops_page_says_what_the_predictors_manifest_says() -> None:
    manifest = (HOUSE / "functions" / "manifests" / "predictor.yaml").read_text(encoding="utf-8")
    service = next(o for o in yaml.safe_load_all(manifest) if o["kind"] == "Service")
    said = service["spec"]["template"]["metadata"]["annotations"]
    told = {row[0].strip("`"): row[1].strip("`") for row in documents.cells(OPS) if "autoscaling." in row[0]}
    assert {k: v for k, v in told.items() if v != "–"} == said


def _annotations(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = set(value.get("annotations") or ()) if isinstance(value.get("annotations"), dict) else set()
        return own.union(*map(_annotations, value.values()))
    return set().union(*map(_annotations, value)) if isinstance(value, list) else set()


# ---------------------------------------------------------------- trainers


@pytest.mark.parametrize("name", ["trainers.trainer.Common", "trainers.random_forest", "trainers.neural_net"])
def test_every_parameter_of_a_training_is_told_with_its_default(name: str) -> None:
    module, _, last = name.rpartition(".")
    path, cls = (module, last) if last == "Common" else (name, "Parameters")
    parameters = getattr(__import__(path, fromlist=[cls]), cls)
    told = {row[0].strip("`"): row[1] for row in documents.cells(DOCS / "data-scientists.md") if len(row) == 3}
    for field in dataclasses.fields(parameters):
        assert told.get(field.name) == str(field.default).replace("None", "none"), field.name


def test_the_trainer_that_the_page_shows_trains_proves_and_packs(tmp_path: Path) -> None:
    """Installed as the page says: a package of its own, known by its entry point."""
    found = documents.blocks(DOCS / "data-scientists.md")
    (source,) = (b.body for b in found if b.mark == "trainer=logistic")
    (entry,) = (b.body for b in found if b.language == "toml")
    assert 'logistic = "our_trainers.logistic"' in entry
    package, info = tmp_path / "our_trainers", tmp_path / "our_trainers-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "logistic.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-trainers\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[headrace.trainers]\nlogistic = our_trainers.logistic\n", encoding="utf-8")
    flights_csv(tmp_path / "january.csv", rows=600)
    (command,) = (c for c in shown("headrace") if "logistic" in c.words)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "HEADRACE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "headrace.cli", *command.words[1:]],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["trainer"] == "logistic"
    assert result["parity"]["label_flips"] == 0
    assert {f.name for f in Path(result["package"]).iterdir()} == _package_files()


def _package_files() -> set[str]:
    rows = documents.cells(DOCS / "data-scientists.md")
    return {row[0].strip("`") for row in rows if len(row) == 2 and re.match(r"`(model|sample|SHA)", row[0])}


def test_the_page_for_data_teams_tells_every_spelling_of_a_gap_and_every_bound_of_a_file() -> None:
    told = {row[0]: row[1] for row in documents.cells(DOCS / "data-teams.md") if len(row) >= 2}
    assert set(re.findall("`([^`]+)`", told["gaps"])) == set(columns.MISSING) - {""}
    assert f"{landing.MAX_BYTES >> 20} MiB" in told["size"]
    assert f"{dataset.MIN_ROWS} or more" in told["rows"]
    assert all(f"`{name}`" in told["columns"] for name in dataset.RESERVED if not name.startswith("__"))
    assert f"up to {landing.MAX_NAME} lower-case letters" in (DOCS / "data-teams.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the examples for developers, run


def test_every_example_for_developers_works_as_it_is_shown(running: Platform, tmp_path: Path) -> None:
    running.train(tmp_path)
    environ = running.environ | {
        "URL": running.run("url", "flights").strip(),
        "BROKER": running.run("url", "broker").strip(),
    }
    examples = [b for b in documents.blocks(DOCS / "developers.md") if b.mark == "run"]
    assert len(examples) >= 8
    for example in examples:
        printed = _run(example, environ, tmp_path)
        for line in documents.answers(example):
            assert documents.says(printed, line), f"{example} should print {line!r}; it printed {printed}"
    for question in ("ask-1", "ask-2"):
        _until_answered(running, question)


def test_every_example_for_ops_that_needs_no_platform_works_as_it_is_shown(tmp_path: Path) -> None:
    for room in ("eventing", "functions", "trainers", "knative"):
        shutil.copytree(HOUSE / room / "manifests", tmp_path / room / "manifests")
    environ = Platform(tmp_path / "home").environ
    examples = [b for b in documents.blocks(OPS) if b.mark == "run"]
    assert len(examples) == 3
    for example in examples:
        printed, answers = _run(example, environ, tmp_path), documents.answers(example)
        assert answers, example
        for line in answers:
            assert documents.says(printed, line), f"{example} should print {line!r}; it printed {printed}"


def _run(example: Block, environ: Mapping[str, str], folder: Path) -> str:
    program = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[example.language]
    done = subprocess.run(
        [*program, example.body], cwd=folder, env=dict(environ), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{example} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def _until_answered(running: Platform, id: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        chain = json.loads(running.run("why", id, "-o", "json"))
        if any(link["noun"] == "answer" and link["event"]["causationid"] == id for link in chain):
            assert chain[0]["noun"] == "file"
            return
        time.sleep(0.2)
    pytest.fail(f"no answer to {id} within a minute")
