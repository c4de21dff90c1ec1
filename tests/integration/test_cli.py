"""smsctl itself: it starts quickly, explains errors, and never loses data of the streams."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from messaging.runtime.config import groups
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
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([SMSCTL, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Its own CPU time, not the time during which other processes had the machine.
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_has_help(name: str):
    done = run(name, "--help")
    assert done.exit_code == 0
    assert f"smsctl {name}" in done.stdout


def test_unknown_command_is_wrong_usage():
    assert run("sned").exit_code == 2


def test_check_config_reports_every_fault_of_settings_and_providers_at_once(tmp_path: pathlib.Path):
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


def test_check_config_masks_what_a_providers_urls_and_settings_hold(tmp_path: pathlib.Path):
    path = tmp_path / "providers.toml"
    path.write_text(
        """[[provider]]
name = "x"
adapter = "http-json"
url = "https://user:hush-1@h/send?key=hush-2&id={digits}"
[provider.settings]
headers = {x-api-key = "hush-3", accept = "text/plain"}
fields = {password = "hush-4", nested = {api_token = "hush-5"}, to = "{digits}", text = "{body}", ref = "{message_id}"}
look_up = {url = "/status/{message_id}?key=hush-6"}
"""
    )
    for options in ([], ["--json"]):
        done = run("check-config", *options, SMSGW_PROVIDERS_FILE=str(path))
        assert done.exit_code == 0, done.stderr
        assert "hush" not in done.output
        assert "text/plain" in done.stdout
        assert "{digits}" in done.stdout


@pytest.mark.parametrize(("field", "notes"), [("{sender}", 0), ("Fixed", 1)])
def test_check_config_notes_a_default_sender_that_nothing_uses(field: str, notes: int, tmp_path: pathlib.Path):
    path = tmp_path / "providers.toml"
    path.write_text(
        '[[provider]]\nname = "x"\nadapter = "http-json"\nurl = "https://h/"\nsender = "MyShop"\n'
        f'settings = {{fields = {{to = "{{digits}}", text = "{{body}}", from = "{field}"}}}}\n'
    )
    for options in ([], ["--json"]):
        done = run("check-config", *options, SMSGW_PROVIDERS_FILE=str(path))
        assert done.exit_code == 0, done.stderr
        assert done.stdout.count("provider[x].sender is used nowhere") == notes


def test_check_config_says_which_region_was_meant():
    done = run("check-config", SMSGW_DEFAULT_REGION="uk")
    said_in_one_sentence(done, 78, "SMSGW_DEFAULT_REGION", "did you mean GB?")


def test_check_config_markdown_lists_every_setting():
    done = run("check-config", "--markdown")
    rows = done.stdout.splitlines()
    assert rows[0] == "| variable | default | meaning |"
    wanted = [field.metadata["variable"] for _, kind in groups() for field in attrs.fields(kind)]
    assert [row.split("`")[1] for row in rows[2:]] == wanted
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_unreachable_server_is_named_with_the_remedy_and_exit_code_69(tmp_path: pathlib.Path):
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


def test_batch_without_a_gateway_names_the_address_and_how_to_start_one(tmp_path: pathlib.Path):
    path = tmp_path / "one.csv"
    path.write_text(f"recipient,body\n{NUMBER},{TEXT}\n")
    address = f"127.0.0.1:{free_port()}"
    for arguments in (("batch", str(path), "--patience", "1"), ("send", NUMBER, TEXT)):
        done = run(*arguments, "--gateway", address)
        said_in_one_sentence(done, 69, f"no gateway answers at {address}", "`smsctl up`", "--gateway")


@pytest.mark.parametrize(
    "gateway", ["127.0.0.1", ":50051", "localhost:", "localhost:http", "127.0.0.1:0", "127.0.0.1:70000", "", "a b:1"]
)
def test_invalid_gateway_address_is_wrong_usage(gateway: str):
    for arguments in (("send", NUMBER, TEXT), ("list",), ("batch", "none.csv")):
        said_in_one_sentence(run(*arguments, "--gateway", gateway), 2, "'--gateway'", "such as 127.0.0.1:50051")


@pytest.mark.parametrize("message_id", ["x", "0201234567", "c0ffee00-0000-4000-8000-000000000000"])
def test_malformed_message_id_is_wrong_usage_with_the_same_sentence_everywhere(message_id: str):
    commands = (("status",), ("cancel",), ("explain",), ("dlq", "show"), ("dlq", "replay"), ("dlq", "discard", "--yes"))
    told = set()
    for command in commands:
        done = run(*command, message_id, SMSGW_VAR="/nonexistent")
        said_in_one_sentence(done, 2, "is not a message id such as 01a20165-")
        told.add(done.stderr.splitlines()[-1].partition("is not a message id")[2])
    assert len(told) == 1


async def test_explain_names_the_sources_that_it_could_not_reach(
    postgres: Postgres, database_template: str, fresh_nats: dict[str, str]
):
    some_id = "01a20165-7b42-748d-a7cf-cb216510c492"
    url = await postgres.create_database(f"explain_{uuid.uuid4().hex}", database_template)
    await asyncio.to_thread(run, "topology", "--create", **fresh_nats)
    here = {**fresh_nats, "SMSGW_DATABASE_URL": url}
    no_stream = {"SMSGW_NATS_URL": f"nats://127.0.0.1:{free_port()}"}
    no_store = {"SMSGW_DATABASE_URL": f"postgresql://u@127.0.0.1:{free_port()}/x"}

    async def told(code: int, *parts: str, **settings: str) -> None:
        done = await asyncio.to_thread(run, "explain", some_id, **{**here, **settings})
        said_in_one_sentence(done, code, *parts)
        assert ("is known" in done.stderr) == (not settings), done.stderr

    await told(1, f"no message {some_id} of client default is known")
    await told(
        69, "the history knows no message", "the message stream could not be asked", "SMSGW_NATS_URL", **no_stream
    )
    await told(69, "the message stream knows no message", "the history could not", "SMSGW_DATABASE_URL", **no_store)
    neither = "neither the message stream nor the history could be asked"
    await told(69, neither, "SMSGW_NATS_URL", "SMSGW_DATABASE_URL", **no_stream, **no_store)


def test_ctrl_c_while_the_command_line_is_loaded_ends_the_process_without_a_traceback():
    program = (
        "import signal, sys, types\n"
        "import ops.smsctl\n"
        "assert 'click' not in sys.modules\n"
        "class Loading(types.ModuleType):\n"
        "    def __getattr__(self, name): signal.raise_signal(signal.SIGINT)\n"
        "sys.modules['ops.cli'] = Loading('ops.cli')\n"
        "ops.smsctl.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (130, "smsctl: interrupted\n")


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("command", [("up",), ("lanes",), ("list",), ("send", "+233201234567", "Hello")])
def test_ctrl_c_in_the_first_moments_of_a_command_is_one_line_and_130(
    tmp_path: pathlib.Path, command: tuple[str, ...], after_s: float
):
    # Nothing answers at these addresses: a listening socket takes the connection, and stays silent.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = {
            **os.environ,
            "SMSGW_VAR": str(tmp_path),
            "SMSGW_LISTEN": address if command[0] != "up" else "127.0.0.1:0",
            "SMSGW_NATS_URL": f"nats://{address}",
            "SMSGW_PROVIDERS_FILE": "providers.example.toml",
        }
        begun = (
            "import os, sys, ops.smsctl\n"
            "sys.addaudithook(lambda event, of: event == 'import' and of[0] == 'ops.cli' and os.write(1, b'begun'))\n"
            "ops.smsctl.main()\n"
        )
        program = [sys.executable, "-c", begun, *command]
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read(5) == "begun"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after_s)
            process.send_signal(signal.SIGINT)
            said, faults = process.communicate(timeout=30)
    if command == ("up",) and "Starting in" in said:  # from here Ctrl-C is its usual end
        assert (process.returncode, faults) == (0, "")
        assert "Stopped" in said or "Nothing was started" in said
    else:
        assert (process.returncode, faults) == (130, "smsctl: interrupted\n")


def test_empty_list_of_dead_letters_is_a_sentence(fresh_nats: dict[str, str]):
    run("topology", "--create", **fresh_nats)
    for options in ([], ["--grouped"], ["--reason", "EXPIRED"]):
        done = run("dlq", "list", *options, **fresh_nats)
        assert (done.exit_code, done.stdout) == (0, "No dead letters.\n")
        assert "smsctl list --state FAILED" in done.stderr
    assert run("dlq", "list", "--json", **fresh_nats).stdout == "", "NDJSON of an empty list is empty"
    assert document(run("dlq", "list", "--grouped", "--json", **fresh_nats)) == []


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


def test_topology_shows_and_creates_and_refuses_changes_that_would_lose_data(fresh_nats: dict[str, str]):
    before = run("topology", "--json", **fresh_nats)
    assert {finding["state"] for finding in json.loads(before.stdout)} == {"missing"}
    said_in_one_sentence(before, 1, "not as they should be", "--create")
    said_in_one_sentence(run("topology", **fresh_nats), 1, "not as they should be", "--create")
    said_in_one_sentence(run("breaker", "show", **fresh_nats), 1, "smsctl topology")
    said_in_one_sentence(run("lanes", **fresh_nats), 1, "smsctl topology")
    created = document(run("topology", "--create", "--json", **fresh_nats))
    assert {finding["state"] for finding in created} == {"created"}
    assert {finding["state"] for finding in document(run("topology", "--json", **fresh_nats))} == {"as wanted"}
    shorter = {**fresh_nats, "SMSGW_EVENT_DAYS": "1", "SMSGW_IDEMPOTENCY_WINDOW_S": "100000"}
    said_in_one_sentence(run("topology", "--create", **shorter), 1, "SMS_EVENT was not changed", "max_age")
    seen = {finding["name"]: finding for finding in json.loads(run("topology", "--json", **shorter).stdout)}
    assert seen["SMS_EVENT"]["state"] == "conflict"
    assert seen["SMS_ACCEPT"]["state"] == "differs"
    said_in_one_sentence(run("topology", **shorter), 1, "not as they should be")


async def test_migrate_brings_an_empty_database_to_the_newest_schema(postgres: Postgres):
    url = await postgres.create_database(f"empty_{uuid.uuid4().hex}")
    first, second = [
        document(await asyncio.to_thread(run, "migrate", "--json", SMSGW_DATABASE_URL=url)) for _ in range(2)
    ]
    assert first["before"] is None
    assert second == {"before": first["after"], "after": first["after"]}
