from __future__ import annotations

import pytest

from headrace import screen


def test_a_row_is_a_line_whatever_its_cells_hold(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(["NAME", "REASON"], [["promoter", "it failed:\nHEADRACE_CANARY_S is 'abc'\r\nand again"], ["b", ""]])
    assert capsys.readouterr().out.splitlines() == [
        "NAME       REASON",
        "promoter   it failed: HEADRACE_CANARY_S is 'abc' and again",
        "b",
    ]
