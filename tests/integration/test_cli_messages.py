"""smsctl and single messages: what it prints about them, and what it never prints."""

import json
import os
import re
import subprocess
import time

from ops.embedded.child import free_port
from ops.system import System
from tests.integration.control import (
    NUMBER,
    SMSCTL,
    TEXT,
    Smsctl,
    behave,
    document,
    lines,
    said_in_one_sentence,
    sent,
    until,
)


def test_send_waits_until_the_message_is_sent_and_masks_the_number(smsctl: Smsctl):
    done = smsctl("send", NUMBER, TEXT, "--wait", "--priority", "otp", "--label", "team=shop", "--reference", "o-7")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Accepted: ")
    assert "SENT" in done.stdout.splitlines()[-1]
    told = smsctl("send", NUMBER, TEXT, "--wait", "--json")
    states = [line["state"] for line in lines(told)]
    assert states[-1] == "MESSAGE_STATE_SENT"
    for output in (done.output, told.output):
        assert NUMBER not in output
        assert TEXT not in output


def test_send_repeated_with_its_request_id_says_so(smsctl: Smsctl):
    first = document(smsctl("send", NUMBER, TEXT, "--request-id", "cli-once", "--json"))
    again = smsctl("send", NUMBER, TEXT, "--request-id", "cli-once")
    assert again.exit_code == 0
    assert "Accepted before" in again.stdout
    assert first["message_id"] in again.stdout
    said_in_one_sentence(smsctl("send", NUMBER, "Else", "--request-id", "cli-once"), 1, "REQUEST_ID_REUSED")


def test_every_wrong_field_is_reported_on_its_own_line(smsctl: Smsctl):
    done = smsctl("send", "+23320", TEXT, "--sender", "far too long a sender", "--ttl", "1", "--provider", "p9")
    said_in_one_sentence(done, 1, "INVALID_FIELDS")
    fields = re.findall(r"^  ([a-z_\[\]0-9]+): ", done.stderr, re.MULTILINE)
    assert sorted(fields) == ["providers[0]", "recipient", "sender", "ttl"]


def test_send_says_what_smart_encoding_replaced(smsctl: Smsctl):
    done = smsctl("send", NUMBER, "\u201cHi\u201d\u200b", "--smart")
    assert done.exit_code == 0
    assert "Replaced in the text: '\u201c' by '\"', '\u201d' by '\"', '\\u200b' by ''" in done.stdout


def test_dry_run_sends_nothing(smsctl: Smsctl, system: System):
    done = smsctl("send", NUMBER, "It\u2019s", "--dry-run", "--request-id", "cli-dry")
    assert done.exit_code == 0
    assert "UCS-2, 1 segment" in done.stdout
    assert "at 2" in done.stdout
    smart = document(smsctl("send", NUMBER, "It\u2019s", "--dry-run", "--smart", "--json"))
    assert (smart["encoding"], smart["replacements"]) == ("ENCODING_GSM7", [{"from": "\u2019", "to": "'"}])
    said_in_one_sentence(smsctl("status", "--request-id", "cli-dry"), 1, "MESSAGE_NOT_FOUND")


def test_status_masks_the_number_by_default(smsctl: Smsctl):
    message_id = sent(smsctl, "--request-id", "cli-status")
    until(smsctl, message_id, "SENT")
    plain = smsctl("status", "--request-id", "cli-status")
    assert message_id in plain.stdout
    assert NUMBER not in plain.stdout
    assert NUMBER not in smsctl("status", message_id, "--json").stdout
    assert document(smsctl("status", message_id, "--reveal", "--json"))["recipient"] == NUMBER
    assert "accepted" in plain.stdout.splitlines()[-1]


def test_cancel_cancels_or_says_why_it_cannot(smsctl: Smsctl):
    message_id = sent(smsctl, "--at", "+600")
    assert document(smsctl("cancel", message_id, "--json"))["state"] == "MESSAGE_STATE_CANCELED"
    gone = sent(smsctl)
    until(smsctl, gone, "SENT")
    said_in_one_sentence(smsctl("cancel", gone), 1, "NOT_CANCELABLE")


def test_list_filters_pages_and_masks(smsctl: Smsctl):
    ids = [sent(smsctl, "--provider", "p2") for _ in range(3)]
    end = time.monotonic() + 40
    while True:  # the history lags by a moment
        found = lines(smsctl("list", "--json", "--provider", "p2", "--state", "sent", "--since", "1h"))
        if {*ids} <= {one["message_id"] for one in found}:
            break
        assert time.monotonic() < end
        time.sleep(0.2)
    assert {one["provider"] for one in found} == {"p2"}
    assert len(lines(smsctl("list", "--json", "--limit", "2"))) == 2
    table = smsctl("list", "--limit", "2")
    assert "SENT" in table.stdout
    assert "--limit" in table.stderr
    assert NUMBER not in table.output
    assert lines(smsctl("list", "--json", "--since", "2030-01-01T00:00:00Z")) == []


def test_explain_shows_each_attempt_with_its_code_and_the_next_step(smsctl: Smsctl, system: System):
    behave(system, "p1", by_suffix={"4567": "unavailable"})
    message_id = sent(smsctl, "--provider", "p1", "--provider", "p2")
    until(smsctl, message_id, "SENT")
    behave(system, "p1")
    told = document(smsctl("explain", message_id, "--json"))
    steps = [
        (step["state"], step["provider"], step["attempt"].split(" in ")[0], step["code"], step["next"])
        for step in told["steps"]
    ]
    assert steps == [
        ("ACCEPTED", "p1", "", "", "to p1 now"),
        ("SENDING", "p1", "1 started", "", ""),
        ("QUEUED", "p2", "1 transient", "unavailable", "to p2 now"),
        ("SENDING", "p2", "2 started", "", ""),
        ("SENT", "p2", "2 accepted", "200", ""),
    ]
    assert len(told["trace"]) == 32
    assert told["notes"] == []
    plain = smsctl("explain", message_id)
    assert plain.exit_code == 0
    assert "+0.000 s" in plain.stdout
    assert "a provider has it" in plain.stdout
    assert NUMBER not in plain.stdout
    assert NUMBER in smsctl("explain", message_id, "--reveal").stdout
    said_in_one_sentence(smsctl("explain", message_id, "--client", "another"), 1, "no message")


def test_explain_takes_the_request_id_of_the_caller_from_either_source(smsctl: Smsctl, system: System):
    message_id = sent(smsctl, "--request-id", "explained-1")
    until(smsctl, message_id, "SENT")
    assert document(smsctl("explain", "--request-id", "explained-1", "--json"))["message"] == message_id
    no_stream = f"nats://127.0.0.1:{free_port()}"
    end = time.monotonic() + 30
    while (found := smsctl("explain", "--request-id", "explained-1", SMSGW_NATS_URL=no_stream)).exit_code:
        assert time.monotonic() < end, found.stderr  # the projector needs a moment
    assert message_id in found.stdout
    said_in_one_sentence(smsctl("explain", "--request-id", "never-given"), 1, "no message of client default")
    said_in_one_sentence(smsctl("explain", message_id, "--request-id", "explained-1"), 2, "either")


def test_list_filters_by_recipient_reference_and_time(smsctl: Smsctl):
    message_id = sent(smsctl, "--reference", "order 7")
    end = time.monotonic() + 30
    while not (found := lines(smsctl("list", "--json", "--reference", "order 7", "--recipient", "+233 20 123-4567"))):
        assert time.monotonic() < end  # the projector needs a moment
    assert [one["message_id"] for one in found] == [message_id]
    for other in (("--recipient", "+233201234568"), ("--reference", "order 8"), ("--until", "1h")):
        assert lines(smsctl("list", "--json", "--reference", "order 7", *other)) == []
    narrow = smsctl("list", "--reference", "order 7", COLUMNS="80")
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert message_id in narrow.stdout


def test_explain_needs_only_one_of_its_sources(smsctl: Smsctl, system: System):
    message_id = sent(smsctl)
    until(smsctl, message_id, "SENT")
    whole = document(smsctl("explain", message_id, "--json"))["steps"]
    without = smsctl("explain", message_id, SMSGW_DATABASE_URL=f"postgresql://u@127.0.0.1:{free_port()}/x")
    assert without.exit_code == 0
    assert "no history at" in without.stdout
    assert without.stdout.count("SENT") == 3
    away = {**os.environ, "SMSGW_VAR": str(system.folder), "SMSGW_NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    end = time.monotonic() + 40
    while True:  # the history lags by a moment
        done = subprocess.run([SMSCTL, "explain", message_id, "--json"], capture_output=True, env=away, check=True)
        told = json.loads(done.stdout)
        if [step["state"] for step in told["steps"]] == ["ACCEPTED", "SENDING", "SENT"]:
            break
        assert time.monotonic() < end
    assert "no message stream at" in told["notes"][0]
    assert told["steps"] == whole


def test_explain_says_where_a_waiting_message_is(smsctl: Smsctl):
    message_id = sent(smsctl, "--at", "+600")
    end = time.monotonic() + 40
    while True:  # the coordinator schedules it a moment later
        later = document(smsctl("explain", message_id, "--json"))
        if later["now"]["sentence"] != "is about to be scheduled":
            break
        assert time.monotonic() < end
    assert later["state"] == "SCHEDULED"
    assert later["now"]["queue"] == "later"
    assert re.match(r"is scheduled: due .*, in (10|9) min", later["now"]["sentence"])
    unknown = smsctl("explain", "01a20165-7b42-748d-a7cf-cb216510c492")
    said_in_one_sentence(unknown, 1, "no message")
