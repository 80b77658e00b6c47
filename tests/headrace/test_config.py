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


def test_a_kubeconfig_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="HEADRACE_KUBECONFIG"):
        config.Config.from_environment({"HEADRACE_KUBECONFIG": str(tmp_path / "absent")})
