"""What is read from the subject on which a delivery is acknowledged."""

import pytest

from messaging.stream.consumer import _parse_ack_subject

SHORT = "$JS.ACK.SMS_EVENT.project-event.2.1234.99.1700000000000000000.17"
LONG = "$JS.ACK.hub.ACCOUNTHASH.SMS_EVENT.project-event.2.1234.99.1700000000000000000.17"


@pytest.mark.parametrize("reply", [SHORT, LONG, f"{LONG}.random"], ids=["short", "with a domain", "with more tokens"])
def test_sequence_delivery_count_and_backlog_are_read_from_every_form(reply: str) -> None:
    assert _parse_ack_subject(reply) == (1234, 2, 17)
