from pathlib import Path

import pytest

from eventing.errors import Misconfigured
from headrace import config


def test_an_option_wins_over_the_environment_and_the_environment_over_the_default(tmp_path: Path) -> None:
    environ = {"HEADRACE_HOME": str(tmp_path / "from-environment")}
    assert config.Config.from_environment(environ, home=tmp_path).home == tmp_path
    assert config.Config.from_environment(environ).home == tmp_path / "from-environment"
    assert config.Config.from_environment({}).home == Path("~/.headrace").expanduser()


def test_a_home_that_is_a_file_is_refused_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("")
    with pytest.raises(Misconfigured, match="HEADRACE_HOME"):
        config.Config.from_environment({"HEADRACE_HOME": str(file)})


def test_a_home_that_may_not_even_be_looked_at_is_refused_with_its_key(tmp_path: Path) -> None:
    for home in (tmp_path / ("x" * 300), Path("~nobody-by-this-name/home")):
        with pytest.raises(Misconfigured, match=r"HEADRACE_HOME.*looked at"):
            config.Config.from_environment({"HEADRACE_HOME": str(home)})


def test_a_kubeconfig_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_KUBECONFIG"):
        config.Config.from_environment({"HEADRACE_KUBECONFIG": str(tmp_path / "absent")})


def test_a_context_alone_names_a_cluster_and_a_namespace_alone_does_not() -> None:
    assert config.Config.from_environment({"HEADRACE_CONTEXT": "c"}).names_a_cluster
    chosen = config.Config.from_environment({"HEADRACE_NAMESPACE": "shop"}, namespace="other")
    assert (chosen.namespace, chosen.names_a_cluster) == ("other", False)
    assert config.Config.from_environment({"HEADRACE_CONTEXT": "", "HEADRACE_NAMESPACE": ""}).namespace is None


@pytest.mark.parametrize(
    ("given", "address"),
    [("192.0.2.1:8000", "http://192.0.2.1:8000"), ("https://gateway/", "https://gateway"), ("", None)],
)
def test_a_gateway_is_an_address_without_a_path(given: str, address: str | None) -> None:
    assert config.Config.from_environment({"HEADRACE_GATEWAY": given}).gateway == address


@pytest.mark.parametrize(
    ("key", "value"),
    [("HEADRACE_NAMESPACE", "Not One"), ("HEADRACE_GATEWAY", "http://gateway/path"), ("HEADRACE_GATEWAY", "ftp://x")],
)
def test_a_namespace_or_gateway_that_cannot_be_is_refused_with_its_key(key: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=key):
        config.Config.from_environment({key: value})
