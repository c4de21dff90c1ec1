"""smsctl itself: quick, clear about what is wrong, and careful with what the streams hold."""

import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from messaging.config import groups
from ops.cli import COMMANDS
from ops.embedded import NatsServer, Postgres
from ops.embedded.child import free_port
from tests.integration.control import NUMBER, SMSCTL, TEXT, document, run, said_in_one_sentence

pytestmark = pytest.mark.usefixtures("no_settings")


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['smsctl', '--help']\n"
        "import ops.cli\n"
        "try: ops.cli.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(COMMANDS) <= set(re.findall(r"^  ([a-z-]+)  ", done.stdout, re.MULTILINE))
    loaded = set(done.stderr.split())
    assert not loaded & {"grpc", "nats", "sqlalchemy", "rich", "structlog", "google.protobuf", "attrs", "asyncio"}
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([SMSCTL, "--help"], capture_output=True, check=True)
        took.append(time.monotonic() - began)
    assert min(took) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_has_help(name: str):
    done = run(name, "--help")
    assert done.exit_code == 0
    assert f"smsctl {name}" in done.stdout


def test_unknown_command_is_wrong_usage():
    assert run("sned").exit_code == 2


def test_check_config_tells_every_fault_of_settings_and_providers_at_once(tmp_path: pathlib.Path):
    path = tmp_path / "providers.toml"
    path.write_text(
        '[[provider]]\nname = "x"\nadapter = "smoke"\nurl = "http://x"\n'
        '[[provider]]\nname = "y"\nadapter = "simulated"\nurl = "http://y"\nsettings = {colour = 1}\n'
    )
    wrong = {"SMSGW_PROVIDERS_FILE": str(path), "SMSGW_REPLICAS": "seven", "SMSGW_NATS": "x"}
    done = run("check-config", **wrong)
    said_in_one_sentence(
        done, 78, "SMSGW_REPLICAS", "SMSGW_NATS:", "provider[x].adapter", "provider[y].settings.colour"
    )
    told = run("check-config", "--json", **wrong)
    assert told.exit_code == 78
    assert len(json.loads(told.stdout)["faults"]) == 4


def test_check_config_masks_secrets(tmp_path: pathlib.Path):
    path = tmp_path / "providers.toml"
    path.write_text(
        '[[provider]]\nname = "x"\nadapter = "simulated"\nurl = "http://x"\nsecrets = {api_key = {env = "X_KEY"}}\n'
    )
    settings = {
        "SMSGW_PROVIDERS_FILE": str(path),
        "X_KEY": "hush-hush",
        "SMSGW_ID_KEY": "hush-too",
        "SMSGW_DATABASE_URL": "postgresql://me:hush-also@db/sms",
    }
    for options in ([], ["--json"]):
        done = run("check-config", *options, **settings)
        assert done.exit_code == 0, done.stderr
        assert "hush" not in done.output
        assert "postgresql://me:****@db/sms" in done.stdout


def test_check_config_markdown_holds_every_setting():
    done = run("check-config", "--markdown")
    rows = done.stdout.splitlines()
    assert rows[0] == "| variable | default | meaning |"
    wanted = [field.metadata["variable"] for _, kind in groups() for field in attrs.fields(kind)]
    assert [row.split("`")[1] for row in rows[2:]] == wanted
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_what_is_away_is_named_with_the_cure_and_69(tmp_path: pathlib.Path):
    path = tmp_path / "providers.toml"
    path.write_text('[[provider]]\nname = "p1"\nadapter = "simulated"\nurl = "http://x"\n')
    away = {
        "SMSGW_NATS_URL": f"nats://u:hush@127.0.0.1:{free_port()}",
        "SMSGW_DATABASE_URL": f"postgresql://u:hush@127.0.0.1:{free_port()}/x",
        "SMSGW_LISTEN": f"127.0.0.1:{free_port()}",
        "SMSGW_PROVIDERS_FILE": str(path),
    }
    some_id = "01a20165-7b42-748d-a7cf-cb216510c492"
    cures = {
        ("lanes",): "SMSGW_NATS_URL",
        ("dlq", "list"): "SMSGW_NATS_URL",
        ("migrate",): "SMSGW_DATABASE_URL",
        ("send", NUMBER, TEXT): "--gateway",
        ("explain", some_id): "SMSGW_DATABASE_URL",
    }

    def ends(arguments: tuple[str, ...]) -> None:
        command = [SMSCTL, *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **away}, check=False)
        assert (done.returncode, done.stdout) == (69, ""), (arguments, done)
        assert cures[arguments] in done.stderr
        assert "Traceback" not in done.stderr
        assert "hush" not in done.stderr

    with ThreadPoolExecutor(len(cures)) as pool:
        list(pool.map(ends, cures))


def test_wrong_settings_end_in_78():
    for command in (("topology",), ("lanes",), ("send", NUMBER, TEXT)):
        said_in_one_sentence(run(*command, SMSGW_LISTENS="x"), 78, "SMSGW_LISTENS")


def test_wrong_usage_ends_in_2():
    for arguments in (
        ("send", NUMBER, TEXT, "--at", "tomorrow"),
        ("send", NUMBER, TEXT, "--label", "novalue"),
        ("send", NUMBER, TEXT, "--dry-run", "--wait"),
        ("status",),
        ("status", "x", "--request-id", "y"),
        ("list", "--since", "yesterday"),
        ("explain", "not-an-id"),
        ("dlq", "replay"),
        ("dlq", "replay", "--all"),
        ("dlq", "discard", "--all", "--reason", "EXPIRED"),
        ("dlq", "list", "--reason", "a.b"),
    ):
        done = run(*arguments, SMSGW_VAR="/nonexistent")
        assert done.exit_code == 2, (arguments, done.stderr)


@pytest.fixture
def fresh_nats(tmp_path: pathlib.Path) -> Iterator[dict[str, str]]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    path = tmp_path / "providers.toml"
    path.write_text('[[provider]]\nname = "p1"\nadapter = "simulated"\nurl = "http://x"\n')
    yield {"SMSGW_NATS_URL": server.url, "SMSGW_PROVIDERS_FILE": str(path)}
    server.stop()


def test_topology_shows_creates_and_never_changes_what_would_lose_data(fresh_nats: dict[str, str]):
    before = document(run("topology", "--json", **fresh_nats))
    assert {finding["state"] for finding in before} == {"missing"}
    said_in_one_sentence(run("breaker", "show", **fresh_nats), 1, "smsctl topology")
    said_in_one_sentence(run("lanes", **fresh_nats), 1, "smsctl topology")
    created = document(run("topology", "--create", "--json", **fresh_nats))
    assert {finding["state"] for finding in created} == {"created"}
    assert {finding["state"] for finding in document(run("topology", "--json", **fresh_nats))} == {"as wanted"}
    shorter = {**fresh_nats, "SMSGW_EVENT_DAYS": "1", "SMSGW_IDEMPOTENCY_WINDOW_S": "100000"}
    said_in_one_sentence(run("topology", "--create", **shorter), 1, "SMS_EVENT stays as it is", "max_age")
    seen = {finding["name"]: finding for finding in document(run("topology", "--json", **shorter))}
    assert seen["SMS_EVENT"]["state"] == "conflict"
    assert seen["SMS_ACCEPT"]["state"] == "differs"
    assert "not as wanted" in run("topology", **shorter).stdout


async def test_migrate_brings_an_empty_database_to_the_newest_schema(postgres: Postgres):
    url = await postgres.create_database(f"empty_{uuid.uuid4().hex}")
    first, second = [
        document(await asyncio.to_thread(run, "migrate", "--json", SMSGW_DATABASE_URL=url)) for _ in range(2)
    ]
    assert first["before"] is None
    assert second == {"before": first["after"], "after": first["after"]}
