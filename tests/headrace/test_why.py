from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from eventing import contract
from headrace import why
from headrace.journal import Entry

DIGEST = "ab" * 32


def entry(seq: int, id: str, cls: type[contract.Data], cause: str | None = None, **data: Any) -> Entry:
    event: dict[str, Any] = {"id": id, "type": cls.TYPE, "source": "/t", "subject": "flights", "data": data}
    if cause:
        event["causationid"] = cause
    return Entry(seq, datetime(2026, 1, 1, 0, 0, seq, tzinfo=UTC), event, ())


JOURNAL = [
    entry(1, "d1", contract.DatasetArrived, uri="file:///s/a.csv", sha256=DIGEST, bytes=10),
    entry(2, "p1", contract.TrainingProgressed, "d1", step="fit", what="100 trees", job="job-1"),
    entry(3, "t1", contract.ModelTrained, "d1", version="v1", job="job-1", seconds=2, scores={"roc_auc": 0.9}),
    entry(4, "m1", contract.ModelPromoted, "t1", version="v1", revision="flights-00001", reason="first"),
    entry(5, "q1", contract.PredictionRequested),
    entry(6, "a1", contract.PredictionMade, "q1", version="v1", latency_ms=1.0, answers={"label": [1], "score": [0.7]}),
    entry(7, "q2", contract.PredictionRequested),
    entry(8, "a2", contract.PredictionMade, "q2", version="v1", latency_ms=1.0),
]


def ids(asked: str) -> list[str]:
    chain = why.explain(JOURNAL, asked)
    assert chain is not None
    return [link.entry.id for link in chain.links]


def test_an_answer_leads_back_to_the_file_it_was_learned_from() -> None:
    assert ids("a1") == ["d1", "t1", "m1", "q1", "a1"]


def test_a_request_leads_forward_to_its_answer() -> None:
    assert "a1" in ids("q1")


def test_a_file_leads_forward_to_what_it_became_and_not_to_each_prediction() -> None:
    assert ids("d1") == ["d1", "p1", "t1", "m1"]


def test_a_digest_a_job_a_version_and_a_revision_name_the_same_chain() -> None:
    for asked in (DIGEST, DIGEST[:10], "job-1", "v1", "flights-00001"):
        assert {"d1", "t1", "m1"} <= set(ids(asked)), asked
        assert "q2" not in ids(asked)


def test_a_chain_calls_a_file_as_whoever_dropped_it_calls_it() -> None:
    arrived = entry(1, "d2", contract.DatasetArrived, uri="file:///s/cd.csv", sha256="cd" * 32, bytes=9, name="may.csv")
    reasons = [{"what": "too few rows"}]
    rejected = entry(2, "r2", contract.DatasetRejected, "d2", uri="file:///s/cd.csv", reasons=reasons, broken_rows=0)
    chain = why.explain([arrived, rejected], "d2")
    assert chain is not None
    assert [link.says for link in chain.links][1] == "may.csv rejected: too few rows"


def test_an_answers_score_is_said_to_be_of_the_last_class() -> None:
    assert why.describe(JOURNAL[5]) == "flights v1 answered in 1.0 ms: 1 (last class 0.700)"


def test_an_event_told_twice_is_one_link() -> None:
    again = entry(9, "d1", contract.DatasetArrived, uri="file:///s/a.csv", sha256=DIGEST, bytes=10)
    chain = why.explain([*JOURNAL, again], "d1")
    assert chain is not None
    assert [link.entry.id for link in chain.links].count("d1") == 1


def test_a_cause_that_the_journal_no_longer_holds_is_named() -> None:
    chain = why.explain(JOURNAL[2:], "t1")
    assert chain is not None
    assert chain.missing == ("d1",)


class Kept:
    """A journal of these entries, which remembers what it was asked."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = tuple(entries)
        self.asked: list[dict[str, Any]] = []

    def read(self, loop: bool, id: str | Sequence[str] = (), causationid: Sequence[str] = ()) -> Iterator[Entry]:
        self.asked.append({"loop": loop, "id": id, "causationid": causationid})
        found = (e for e in self._entries if (e.type in contract.LOOP) is loop)
        found = (e for e in found if not id or e.id in ([id] if isinstance(id, str) else id))
        return (e for e in found if not causationid or e.cause in causationid)


DRIFTED = [
    *JOURNAL,
    entry(9, "x1", contract.DriftDetected, "a2", version="v1", feature="temp", statistic="psi", value=1.0),
    entry(10, "t2", contract.ModelTrained, "x1", version="v2", job="job-2", seconds=2),
    entry(11, "q3", contract.PredictionRequested),
    entry(12, "a3", contract.PredictionMade, "q3", version="v2", latency_ms=1.0),
    entry(13, "x2", contract.DriftDetected, "a3", version="v2", feature="temp", statistic="psi", value=1.0),
    entry(14, "q4", contract.PredictionRequested),
    entry(15, "a4", contract.PredictionMade, "q4", version="v0", latency_ms=1.0),
]


@pytest.mark.parametrize("asked", [*(e.id for e in DRIFTED), DIGEST[:10], "job-2", "v0", "v1", "v2", "nobody"])
def test_a_journal_is_asked_for_as_little_as_tells_the_same(asked: str) -> None:
    kept = Kept(DRIFTED)
    assert why.look_up(kept, asked) == why.explain(DRIFTED, asked)  # type: ignore[arg-type]
    everything = {"loop": False, "id": (), "causationid": ()}
    assert (everything in kept.asked) is (asked in ("v0", "nobody"))


def test_a_prediction_that_followed_from_the_loop_is_told_where_it_is_asked_for() -> None:
    asked_at_once = entry(9, "q5", contract.PredictionRequested, "m1")
    kept = Kept([*JOURNAL, asked_at_once])
    chain = why.look_up(kept, "d1")  # type: ignore[arg-type]
    assert chain == why.explain(JOURNAL, "d1")
    chain = why.look_up(kept, "q5")  # type: ignore[arg-type]
    assert chain is not None
    assert [link.entry.id for link in chain.links] == ["d1", "t1", "m1", "q5"]


def test_for_the_causes_of_many_drifts_a_journal_is_asked_twice() -> None:
    many = [e for n in range(40) for e in generation(n)]
    kept = Kept(many)
    chain = why.look_up(kept, "v39")  # type: ignore[arg-type]
    assert chain == why.explain(many, "v39")
    assert chain is not None
    assert len(chain.links) == len(many)
    assert len(kept.asked) == 3


def generation(n: int) -> list[Entry]:
    """A training, a prediction by what came of it, and the drift that this one told of: the next one's cause."""
    return [
        entry(0, f"t{n}", contract.ModelTrained, f"x{n - 1}" if n else None, version=f"v{n}", job=f"j{n}", seconds=1),
        entry(0, f"q{n}", contract.PredictionRequested),
        entry(0, f"a{n}", contract.PredictionMade, f"q{n}", version=f"v{n}", latency_ms=1.0),
        entry(0, f"x{n}", contract.DriftDetected, f"a{n}", version=f"v{n}", feature="f", statistic="psi", value=1.0),
    ]


def test_a_name_nobody_bears_has_no_chain() -> None:
    assert why.explain(JOURNAL, "nobody") is None


def test_a_drift_leads_back_to_the_training_of_the_drifting_version() -> None:
    drift = entry(9, "x1", contract.DriftDetected, "a2", version="v1", feature="temp", statistic="psi", value=1.0)
    chain = why.explain([*JOURNAL, drift], "x1")
    assert chain is not None
    assert {"d1", "t1", "a2", "x1"} <= {link.entry.id for link in chain.links}


def test_every_event_type_of_the_contract_has_a_noun_and_a_sentence() -> None:
    for type, cls in contract.TYPES.items():
        bare = entry(1, "e", cls)
        assert why.noun(bare) != "event", type
        assert not why.describe(bare).startswith(type)
