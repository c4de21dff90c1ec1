"""How an expected error ends a command, and that a bug is not taken for one."""

import errno

import pytest

from messaging import errors
from ops.commands.failure import as_failure
from ops.system import ProcessFailed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError([("SMSGW_X", "is wrong"), ("SMSGW_Y", "too")]), 78),
        (errors.ServerTooOld("level 2", "level 4"), 78),
        (errors.SetupError("SMSGW_LISTEN: is taken"), 78),
        (errors.TopologyConflict("SMS_EVENT", ["max_age is 2, wanted 1"]), 1),
        (ProcessFailed("gateway-1", 1, "the end of its log"), 1),
        (errors.StreamDown("reading"), 69),
        (errors.StoreDown("reading"), 69),
        (errors.CorruptRecord("sms.event", "not an Event"), 1),
    ],
)
def test_expected_error_has_its_exit_code_also_out_of_a_task_group(error: errors.GatewayError, code: int):
    for raised in (error, ExceptionGroup("tasks", [ExceptionGroup("inner", [error])])):
        failure = as_failure(raised)
        assert failure is not None
        assert failure.exit_code == code


def test_every_fault_stands_on_a_line_of_its_own():
    failure = as_failure(errors.ConfigError([("SMSGW_X", "is wrong"), ("SMSGW_Y", "too")]))
    assert failure is not None
    assert failure.message.splitlines() == ["these settings are wrong:", "  SMSGW_X: is wrong", "  SMSGW_Y: too"]


def test_full_disk_is_a_failure_and_no_bug():
    full = OSError(errno.ENOSPC, "No space left on device")
    for raised in (full, ExceptionGroup("tasks", [full])):
        failure = as_failure(raised)
        assert failure is not None
        assert (failure.exit_code, failure.message) == (1, "the output cannot be written: No space left on device")
    assert as_failure(OSError(errno.ENOENT, "No such file")) is None


def test_bug_is_no_failure():
    assert as_failure(KeyError("x")) is None
    assert as_failure(ExceptionGroup("tasks", [KeyError("x")])) is None
