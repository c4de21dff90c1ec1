"""smsctl and many messages: the fleet, dead letters, and files."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import time
from typing import Any

from messaging.documents import Pause
from messaging.instants import utc
from messaging.stream import topology as topo
from messaging.stream.board import BreakerBoard
from messaging.stream.buckets import Bucket
from messaging.stream.connection import open_connection
from ops.system import System
from tests.integration.control import (
    NUMBER,
    SMSCTL,
    TEXT,
    Smsctl,
    document,
    lines,
    run,
    said_in_one_sentence,
    sent,
    until,
)


def test_lanes_show_rates_and_breakers(smsctl: Smsctl):
    end = time.monotonic() + 40
    while True:  # the pods get their shares a moment after the gateway serves
        picture = document(smsctl("lanes", "--json"))
        if all(lane["pods"] == 1 and lane["rate"] is not None for lane in picture["lanes"]):
            break
        assert time.monotonic() < end, picture
    assert [lane["provider"] for lane in picture["lanes"]] == ["p1", "p2"]
    assert picture["limit"] == 200
    plain = smsctl("lanes")
    assert "of 200 a second" in plain.stdout


def test_lanes_watch_until_interrupted(system: System):
    environment = {**os.environ, "SMSGW_VAR": str(system.folder)}
    command = [SMSCTL, "lanes", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        assert watching.stdout is not None
        pictures = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(40) == 0
    assert all(len(picture["lanes"]) == 2 for picture in pictures)


async def test_lanes_tell_until_when_and_why_a_provider_is_paused_and_breaker_reset_ends_it(
    system: System, smsctl: Smsctl
):
    async with open_connection(system.environment["SMSGW_NATS_URL"], "test") as connection:
        until = time.time() + 600.0
        pause = Pause(10.0, until, "throttled with code 429")
        await BreakerBoard(Bucket(connection, topo.BREAKERS_BUCKET)).set_pause("p1", pause, 600)
    lane, other = document(await asyncio.to_thread(smsctl, "lanes", "--json"))["lanes"]
    assert (lane["paused"], lane["pause"]) == (True, f"until {utc(until)}: throttled with code 429")
    assert (other["paused"], other["pause"]) == (False, "")
    shown = (await asyncio.to_thread(smsctl, "lanes")).stdout
    assert "throttled with code 429" in " ".join(shown.split())
    await asyncio.to_thread(smsctl, "breaker", "reset", "p1")
    assert not document(await asyncio.to_thread(smsctl, "lanes", "--json"))["lanes"][0]["paused"]
    began = time.monotonic()
    sent_one = await asyncio.to_thread(smsctl, "send", NUMBER, TEXT, "--provider", "p1", "--wait", "--json")
    assert lines(sent_one)[-1]["state"] == "MESSAGE_STATE_SENT"
    assert time.monotonic() - began < 5, "the rest of the pause takes longer"


def test_breaker_is_opened_and_reset_each_time_with_a_new_generation(smsctl: Smsctl):
    before = document(smsctl("breaker", "show", "p1", "--json"))["p1"]["generation"]
    opened = document(smsctl("breaker", "open", "p1", "--reason", "maintenance", "--json"))["p1"]
    assert (opened["state"], opened["forced"], opened["reason"]) == ("open", True, "maintenance")
    assert opened["generation"] == before + 1
    assert "open (forced, maintenance)" in smsctl("lanes").stdout
    closed = document(smsctl("breaker", "reset", "p1", "--json"))["p1"]
    assert (closed["state"], closed["forced"], closed["generation"]) == ("closed", False, before + 2)
    assert smsctl("breaker", "open", "p9").exit_code == 2
    assert set(document(smsctl("breaker", "show", "--json"))) == {"p1", "p2"}


def expired(smsctl: Smsctl, count: int = 1) -> list[str]:
    """Let messages wait behind p1's open breaker until their deadline; its pod may read the breaker late."""
    smsctl("breaker", "open", "p1")
    found: list[str] = []
    for _ in range(5):
        ids = [sent(smsctl, "--provider", "p1", "--ttl", "5") for _ in range(count - len(found))]
        found += [message_id for message_id in ids if until(smsctl, message_id, "EXPIRED", "SENT") == "EXPIRED"]
        if len(found) == count:
            return in_the_dead_letters(smsctl, found)
    raise AssertionError("p1 goes on sending")


def in_the_dead_letters(smsctl: Smsctl, ids: list[str]) -> list[str]:
    """Wait for the dead letters: each is written after the event that ends its message."""
    end = time.monotonic() + 20
    while not buried(smsctl).issuperset(ids):
        assert time.monotonic() < end, "a message has ended without a dead letter"
    return ids


def buried(smsctl: Smsctl) -> set[str]:
    return {letter["command"]["message_id"] for letter in lines(smsctl("dlq", "list", "--json", "--limit", "500"))}


def test_dead_letters_are_listed_shown_replayed_and_discarded(smsctl: Smsctl):
    first, second, third = expired(smsctl, 3)
    assert document(smsctl("dlq", "list", "--grouped", "--json")) == [
        {"provider": "p1", "reason": "EXPIRED", "count": 3}
    ]
    for options in ([], ["--json"]):
        shown = smsctl("dlq", "show", first, *options)
        assert shown.exit_code == 0
        assert "EXPIRED" in shown.stdout
        assert NUMBER not in shown.output
        assert TEXT not in shown.output
        assert TEXT not in smsctl("dlq", "list", *options).output
    refused = smsctl("dlq", "replay", first)
    assert refused.exit_code == 1
    assert "--ttl" in refused.stdout
    dry = smsctl("dlq", "replay", first, "--ttl", "60", "--dry-run")
    assert dry.exit_code == 0
    assert "would be replayed: to p1" in dry.stdout
    assert first in buried(smsctl)
    # It waits behind the open breaker, past its first deadline, which the replay has replaced.
    assert smsctl("dlq", "replay", first, "--ttl", "60").exit_code == 0
    assert first not in buried(smsctl)
    expired(smsctl)
    assert document(smsctl("status", first, "--json"))["state"] == "MESSAGE_STATE_QUEUED"
    smsctl("breaker", "reset", "p1")
    until(smsctl, first, "SENT")
    told = [step["state"] for step in document(smsctl("explain", first, "--json"))["steps"]]
    assert told == ["ACCEPTED", "EXPIRED", "QUEUED", "SENDING", "SENT"]
    gone = smsctl("dlq", "discard", second, "--yes", "--json", "--by", "ann")
    assert "ann discarded its dead letter" in smsctl("explain", second).stdout
    assert [one["result"] for one in lines(gone)] == ["discarded"]
    assert document(smsctl("status", second, "--json"))["state"] == "MESSAGE_STATE_EXPIRED"
    said_in_one_sentence(smsctl("dlq", "show", second), 1, "no dead letter")
    everything = smsctl("dlq", "replay", "--all", "--reason", "expired", "--ttl", "60", "--json")
    assert {one["result"] for one in lines(everything)} == {"replayed"}
    until(smsctl, third, "SENT")
    assert buried(smsctl) == set()


def test_replay_keeps_to_its_rate(smsctl: Smsctl):
    ids = expired(smsctl, 4)
    smsctl("breaker", "reset", "p1")
    began = time.monotonic()
    done = smsctl("dlq", "replay", *ids, "--ttl", "60", "--rate", "4")
    assert done.exit_code == 0, done.output
    assert time.monotonic() - began >= 0.75


def csv_of(path: pathlib.Path, count: int, *, bad: int = -1) -> pathlib.Path:
    numbers = (f"+23324{n:07d}" if n != bad else "12" for n in range(count))
    path.write_text("recipient,body,priority\n" + "".join(f"{number},{TEXT},bulk\n" for number in numbers))
    return path


def test_batch_sends_every_row_once_however_often_it_is_run(smsctl: Smsctl, tmp_path: pathlib.Path):
    path = csv_of(tmp_path / "campaign.csv", 60, bad=17)
    rejects, reasons = tmp_path / "rejects.csv", tmp_path / "reasons.ndjson"
    dry = json.loads(smsctl("batch", str(path), "--dry-run", "--json").stdout)
    assert (dry["accepted"], dry["refused"], dry["dry_run"]) == (59, {"INVALID_FIELDS": 1}, True)
    first = smsctl("batch", str(path), "--chunk", "25", "--rejects", str(rejects), "--reasons", str(reasons), "--json")
    assert first.exit_code == 1
    assert "line 19: INVALID_FIELDS: recipient" in first.stderr
    told = json.loads(first.stdout)
    assert (told["accepted"], told["repeated"], told["refused"]) == (59, 0, {"INVALID_FIELDS": 1})
    [reason] = map(json.loads, reasons.read_text().splitlines())
    assert (reason["line"], reason["reason"]) == (19, "INVALID_FIELDS")
    again = smsctl("batch", str(path))
    assert again.exit_code == 1
    assert "0 accepted, 59 accepted before, 1 refused (1 INVALID_FIELDS)" in again.stdout
    without = json.loads(smsctl("batch", str(path), "--no-request-ids", "--json").stdout)
    assert without["accepted"] == 59
    for done in (first, again):
        assert TEXT not in done.output


def test_corrected_rejects_are_sent_once_and_the_corrected_file_sends_nothing_twice(
    smsctl: Smsctl, tmp_path: pathlib.Path
):
    path = csv_of(tmp_path / "campaign.csv", 10, bad=4)
    path.write_text(path.read_text().replace(TEXT, f"{TEXT} again"))
    rejects = tmp_path / "rejects.csv"
    assert smsctl("batch", str(path), "--rejects", str(rejects)).exit_code == 1
    for once in (rejects, path):
        once.write_text(once.read_text().replace("12,", "+233240000004,"))
    mended = document(smsctl("batch", str(rejects), "--json"))
    assert (mended["accepted"], mended["repeated"]) == (1, 0)
    header, *rows = path.read_text().splitlines()
    renamed = tmp_path / "renamed.csv"
    renamed.write_text("\n".join([header, *sorted(rows[1:], reverse=True)]))
    for source, stdin in ((str(renamed), None), ("-", path.read_text())):
        told = document(smsctl("batch", source, "--json", stdin=stdin))
        assert (told["accepted"], told["repeated"]) == (0, 9 if stdin is None else 10)
    other = document(smsctl("batch", str(path), "--campaign", "second", "--json"))
    assert (other["accepted"], other["repeated"]) == (10, 0)


def test_same_recipient_is_told_and_left_out_only_with_distinct(smsctl: Smsctl, tmp_path: pathlib.Path):
    path = tmp_path / "twice.csv"
    path.write_text(f"recipient,body\n{NUMBER},one {TEXT}\n{NUMBER},two {TEXT}\n")
    told = smsctl("batch", str(path), "--distinct")
    assert "1 accepted, 0 accepted before" in told.stdout
    assert "1 row for a recipient that came before in the file: left out" in told.stdout
    assert "1 row for a recipient that came before in the file: not left out" in smsctl("batch", str(path)).stdout


def test_batch_reads_ndjson_from_standard_input(smsctl: Smsctl):
    rows = [{"recipient": NUMBER, "body": TEXT, "requestId": f"stdin-{n}"} for n in range(3)]
    done = smsctl("batch", "-", "--json", stdin="\n".join(map(json.dumps, [*rows, {"colour": 1}])))
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["accepted"], told["refused"]) == (3, {"BAD_ROW": 1})
    assert "line 4" in done.stderr


def test_batch_with_a_file_that_holds_no_messages_fails_with_one_sentence(smsctl: Smsctl, tmp_path: pathlib.Path):
    said_in_one_sentence(smsctl("batch", str(tmp_path / "none.csv")), 1, "cannot be read")
    path = tmp_path / "wrong.csv"
    path.write_text("number,text\n")
    said_in_one_sentence(smsctl("batch", str(path)), 1, "no column body")


def streamed(system: System) -> int:
    """The number of messages accepted so far."""
    found: list[dict[str, Any]] = document(run("topology", "--json", SMSGW_VAR=str(system.folder)))
    return sum(one["messages"] for one in found if one["name"] == "SMS_ACCEPT")


def test_batch_survives_a_gateway_that_is_killed_and_restarted(system: System, tmp_path: pathlib.Path):
    path = csv_of(tmp_path / "broken.csv", 3000)
    environment = {**os.environ, "SMSGW_VAR": str(system.folder)}
    command = [SMSCTL, "batch", str(path), "--chunk", "50", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as batch:
        end = time.monotonic() + 40
        while streamed(system) < 200:
            assert time.monotonic() < end
            time.sleep(0.02)
        system.processes["gateway-1"].kill()
        system.restart("gateway-1")
        out, err = batch.communicate(timeout=60)
    told = json.loads(out)
    assert batch.returncode == 0, err
    assert told["accepted"] + told["repeated"] == 3000
    assert told["resumed"] >= 1
    again = json.loads(run("batch", str(path), "--json", SMSGW_VAR=str(system.folder)).stdout)
    assert (again["accepted"], again["repeated"]) == (0, 3000)
