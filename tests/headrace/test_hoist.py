from headrace.cli import hoist


def test_where_to_act_may_be_said_after_the_command() -> None:
    assert hoist(["drop", "a.csv", "--home", "/h", "--wait"]) == ["--home", "/h", "drop", "a.csv", "--wait"]
    assert hoist(["url", "x", "--kubeconfig=/k"]) == ["--kubeconfig=/k", "url", "x"]


def test_context_and_namespace_are_of_every_command_alike() -> None:
    assert hoist(["status", "-n", "shop", "--context", "c"]) == ["-n", "shop", "--context", "c", "status"]
    assert hoist(["deploy", "-nshop", "--namespace=shop"]) == ["-nshop", "--namespace=shop", "deploy"]
    assert hoist(["url", "x", "--gateway", "http://g"]) == ["--gateway", "http://g", "url", "x"]


def test_what_follows_two_dashes_is_left_alone() -> None:
    assert hoist(["drop", "--", "--home", "x.csv"]) == ["drop", "--", "--home", "x.csv"]


def test_an_option_without_its_value_is_left_for_the_parser_to_refuse() -> None:
    assert hoist(["models", "--home"]) == ["--home", "models"]
