"""How many messages may be accepted and not yet sent."""

import attrs
import pytest

from gateway_grpc.admission import Admission
from messaging.errors import BacklogFull, StreamFull


@attrs.define
class View:
    """The part of the fleet view that admission uses; a refresh replaces `backlog`."""

    backlog: dict[str, int]
    storage_fill: float = 0.0


def admission(view: View, *, limit: int = 100, per_provider: int = 10) -> Admission:
    return Admission(view, limit, per_provider, 0.8)  # type: ignore[arg-type]


def test_messages_accepted_since_the_last_refresh_count() -> None:
    gate = admission(View({"p1": 7, "p2": 0}))
    for _ in range(3):
        gate.check("p1")
    with pytest.raises(BacklogFull) as caught:
        gate.check("p1")
    assert (caught.value.scope, caught.value.limit) == ("provider p1", 10)
    gate.check("p2")


def test_a_refresh_replaces_the_count_of_accepted_messages() -> None:
    view = View({"p1": 9})
    gate = admission(view)
    gate.check("p1")
    with pytest.raises(BacklogFull):
        gate.check("p1")
    view.backlog = {"p1": 4}
    for _ in range(6):
        gate.check("p1")
    with pytest.raises(BacklogFull):
        gate.check("p1")


def test_the_total_limit_holds_for_all_providers_together() -> None:
    gate = admission(View({"p1": 6, "p2": 6}), limit=13)
    gate.check("p1")
    with pytest.raises(BacklogFull) as caught:
        gate.check("p2")
    assert caught.value.scope == "all providers"


def test_a_refused_message_does_not_count() -> None:
    view = View({"p1": 10})
    gate = admission(view)
    for _ in range(5):
        with pytest.raises(BacklogFull):
            gate.check("p1")
    view.backlog = {"p1": 9}
    gate.check("p1")


def test_storage_that_is_nearly_full_stops_accepting() -> None:
    view = View({"p1": 0}, storage_fill=0.8)
    with pytest.raises(StreamFull):
        admission(view).check("p1")
    view.storage_fill = 0.79
    admission(view).check("p1")
