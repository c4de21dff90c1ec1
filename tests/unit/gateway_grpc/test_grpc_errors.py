import base64
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from gateway_grpc.errors import CODES, DOMAIN, MAX_STATUS_BYTES, code_of, grpc_status_of, without_fields
from messaging import errors

CODE = grpc.StatusCode
SECRET = "+233201234567"

SAMPLES: list[errors.GatewayError] = [
    errors.GatewayError(SECRET),
    errors.CallerError("bad"),
    errors.InvalidRequest([("recipient", "is required"), ("messages[1].body", "is required")]),
    errors.RequestTooLarge("request", 300_000, 262_144, "shorten it"),
    errors.NotFound("message_id"),
    errors.RequestIdReused("0190-7"),
    errors.NotCancelable("0190-7", "SENT"),
    errors.NoRoute(("alpha", "beta")),
    errors.BacklogFull("provider alpha", 10, 2.5),
    errors.Unavailable("away"),
    errors.StreamDown("publishing"),
    errors.StreamFull("SMS_ACCEPT"),
    errors.StoreDown("reading"),
    errors.StoreRefuses("writing"),
    errors.ClockWrong(),
    errors.GatewayBusy("SMSGW_MAX_CALLS", 10),
    errors.CallTooLong("idle", 300.0),
    errors.Draining(),
    errors.SetupError(SECRET),
    errors.ConfigError([("SMSGW_X", SECRET)]),
    errors.ServerTooOld("level 3", "level 4"),
    errors.TooFewServers(3),
    errors.TopologyConflict("SMS_SEND", [SECRET]),
    errors.StoppedEarly(),
    errors.CorruptRecord(f"sms.{SECRET}", "bytes"),
]
EVERY = pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)


def tree(kind: type[errors.GatewayError] = errors.GatewayError) -> Iterator[type[errors.GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def unpacked(status: status_pb2.Status) -> dict[str, object]:
    """Return a status's details by the names of their types; each type occurs once."""
    found: dict[str, object] = {}
    for one in status.details:
        kind = getattr(details, one.type_url.rpartition(".")[2])()
        assert one.Unpack(kind)
        assert type(kind).__name__ not in found
        found[type(kind).__name__] = kind
    return found


def test_every_error_of_the_tree_has_a_code_and_a_sample_here() -> None:
    ours = {kind for kind in tree() if kind.__module__ == errors.__name__}
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert ours == defined == set(CODES) == {type(error) for error in SAMPLES}


def test_tree_in_the_docstring_is_the_tree() -> None:
    lines = (line for line in (errors.__doc__ or "").splitlines() if "── " in line)
    drawn = {line.partition("── ")[2].split()[0] for line in lines if "(ops." not in line}
    assert drawn == {kind.__name__ for kind in CODES} - {"GatewayError"}


def test_reasons_are_stable_words_and_each_leaf_has_its_own() -> None:
    leaves = [kind for kind in tree() if kind.__module__ == errors.__name__ and not kind.__subclasses__()]
    assert len({kind.reason for kind in leaves}) == len(leaves)
    for kind in tree():
        assert kind.reason.replace("_", "").isalpha()
        assert kind.reason == kind.reason.upper()


def test_error_without_a_row_takes_the_code_of_its_base_class() -> None:
    class Newer(errors.StreamDown):
        pass

    assert code_of(Newer("x")) is CODE.UNAVAILABLE


@EVERY
def test_status_carries_the_code_and_error_info(error: errors.GatewayError) -> None:
    status = grpc_status_of(error)
    assert status.code == CODES[type(error)].value[0]
    info = unpacked(status)["ErrorInfo"]
    assert isinstance(info, details.ErrorInfo)
    assert (info.domain, info.reason) == (DOMAIN, error.reason)
    assert DOMAIN == "sms.gateway"


@EVERY
def test_retry_info_is_given_where_a_retry_helps(error: errors.GatewayError) -> None:
    found = unpacked(grpc_status_of(error))
    again = code_of(error) in {CODE.RESOURCE_EXHAUSTED, CODE.UNAVAILABLE}
    assert ("RetryInfo" in found) == again
    if again:
        retry = found["RetryInfo"]
        assert isinstance(retry, details.RetryInfo)
        assert retry.retry_delay.ToTimedelta().total_seconds() == getattr(error, "retry_after_s")  # noqa: B009
        assert retry.retry_delay.ToTimedelta().total_seconds() > 0


@EVERY
def test_bad_request_is_given_for_invalid_requests_only_and_lists_all_fields(error: errors.GatewayError) -> None:
    found = unpacked(grpc_status_of(error)).get("BadRequest")
    assert (found is not None) == isinstance(error, errors.InvalidRequest)
    if isinstance(error, errors.InvalidRequest):
        assert isinstance(found, details.BadRequest)
        assert [(one.field, one.description) for one in found.field_violations] == error.violations


LONG: list[errors.GatewayError] = [
    errors.InvalidRequest([(f"field{number}" * 50, "is wrong, and here is how to mend it " * 50)] * count)
    for number, count in enumerate((1, 19, 20, 21, 5000))
]
LONG += [
    errors.InvalidRequest([("recipient", "é👋" * 10_000)] * 20),
    errors.NoRoute(("x" * 5000,)),
    errors.NotFound("é" * 50_000),
    errors.NotCancelable("m" * 5000, "S" * 5000),
    errors.BacklogFull("p" * 2000, 10, 2.5),
    errors.StreamFull("s" * 5000),
]


@pytest.mark.parametrize("error", [*SAMPLES, *LONG], ids=lambda error: type(error).__name__)
def test_no_status_is_larger_than_a_caller_takes(error: errors.GatewayError) -> None:
    status = grpc_status_of(error)
    assert status.ByteSize() <= MAX_STATUS_BYTES == 4096
    in_header = quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    assert len(in_header) + len(base64.b64encode(status.SerializeToString())) < 7000, "of 8 kB of trailers"
    found = unpacked(status)
    assert {"ErrorInfo"} <= set(found)
    if isinstance(error, errors.InvalidRequest):
        assert isinstance(found["BadRequest"], details.BadRequest)
        assert 1 <= len(found["BadRequest"].field_violations) <= 20


def test_violations_beyond_twenty_are_counted() -> None:
    refused = errors.InvalidRequest([(f"providers[{number}]", "is not a provider") for number in range(50)])
    assert len(refused.violations) == 20
    assert str(refused).endswith("providers[19]: is not a provider; and 30 more")


def test_status_without_its_fields_says_the_same() -> None:
    status = grpc_status_of(errors.InvalidRequest([("body", "is required")]))
    shorter = without_fields(status)
    assert (shorter.code, shorter.message) == (status.code, status.message)
    assert set(unpacked(shorter)) == {"ErrorInfo"}


@EVERY
def test_quota_failure_names_what_is_full(error: errors.GatewayError) -> None:
    found = unpacked(grpc_status_of(error)).get("QuotaFailure")
    assert (found is not None) == isinstance(error, errors.BacklogFull)
    if isinstance(error, errors.BacklogFull):
        assert isinstance(found, details.QuotaFailure)
        assert [one.subject for one in found.violations] == ["provider alpha"]


@EVERY
def test_internal_error_does_not_show_its_text(error: errors.GatewayError) -> None:
    status = grpc_status_of(error)
    hidden = code_of(error) in {CODE.INTERNAL, CODE.DATA_LOSS}
    assert (status.message != str(error)) == hidden
    if hidden:
        assert SECRET.encode() not in status.SerializeToString()
        info = unpacked(status)["ErrorInfo"]
        assert isinstance(info, details.ErrorInfo)
        assert not info.metadata


def test_metadata_has_the_typed_fields_that_a_program_needs() -> None:
    def metadata(error: errors.GatewayError) -> dict[str, str]:
        info = unpacked(grpc_status_of(error))["ErrorInfo"]
        assert isinstance(info, details.ErrorInfo)
        return dict(info.metadata)

    assert metadata(errors.NotCancelable("0190-7", "SENT")) == {"message_id": "0190-7", "state": "SENT"}
    assert metadata(errors.RequestIdReused("0190-7")) == {"message_id": "0190-7"}
    assert metadata(errors.BacklogFull("provider alpha", 10, 2.5)) == {"scope": "provider alpha"}, "no setting"
    assert metadata(errors.StreamFull("SMS_ACCEPT")) == {"stream": "SMS_ACCEPT"}
