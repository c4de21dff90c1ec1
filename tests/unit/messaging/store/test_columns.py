"""Every column of a message has one rule by which an upsert fills it, and its row holds the whole command."""

from sms.dispatch.v1 import dispatch_pb2 as wire

from messaging.store import writer
from messaging.store.rows import Projected, to_rows
from messaging.store.tables import messages
from tests.descriptors import filled

_BY_A_RULE_OF_THEIR_OWN = {"message_id", "client", "deadline", "provider"}


def test_every_column_of_a_message_is_filled_by_one_rule() -> None:
    ruled = [*writer._ACCEPTED_ONCE, *writer._MOVED_BY_EVENTS, *_BY_A_RULE_OF_THEIR_OWN]
    assert sorted(ruled) == sorted(messages.c.keys())


def test_row_holds_the_whole_command() -> None:
    command = filled(wire.Command)
    command.message_id = "01a20146-8421-72d3-98b7-7a8dce1a5a06"
    ((row,)) = to_rows([Projected(7, entry=wire.QueueEntry(command=command))]).messages
    assert wire.Command.FromString(row["command"]) == command
    assert row["command_key"] is None
