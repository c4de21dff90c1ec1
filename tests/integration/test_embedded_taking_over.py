"""Data folders of earlier versions, whose PostgreSQL trusted everybody, are closed and keep their rows."""

import asyncio
import os
import pathlib
import subprocess
import time

import asyncpg
import pytest

from messaging.store import migrate
from ops.embedded import NatsServer, Postgres
from ops.embedded.accounts import give, named_account
from ops.embedded.child import free_port

_PATIENCE_S = 40.0


def run_before(data: pathlib.Path, *command: str | pathlib.Path) -> "subprocess.Popen[bytes]":
    """Start a program as earlier versions did: as a named account if root starts it."""
    account = named_account()
    return subprocess.Popen(
        command,
        cwd=data,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdout=subprocess.DEVNULL,
        user=account.user if account else None,
        group=account.group if account else None,
        extra_groups=[] if account else None,
    )


async def connected(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError):
            assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def fill(port: int) -> None:
    first = await connected(f"postgresql://smsgw@127.0.0.1:{port}/postgres")
    await first.execute("create database smsgw")
    await first.close()
    url = f"postgresql://smsgw@127.0.0.1:{port}/smsgw"
    await asyncio.to_thread(migrate.upgrade, url)
    connection = await connected(url)
    for statement in (
        "create table extra (x serial primary key, y text)",
        "insert into extra (y) values ('kept')",
        "create view seen as select * from extra",
        "create sequence alone",
        "create type mood as enum ('good')",
        "create schema other",
        "create function other.one() returns int language sql as 'select 1'",
    ):
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
def before(open_folder: pathlib.Path) -> pathlib.Path:
    """A folder as an earlier version left it."""
    folder = open_folder / f"before-{time.monotonic_ns()}"
    data = folder / "data"
    data.mkdir(parents=True)
    data.chmod(0o700)
    if account := named_account():
        give(data, account)
    programs = Postgres(folder)._programs()
    trust = ("-U", "smsgw", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    assert run_before(data, programs / "initdb", "-D", data, *trust).wait(60) == 0
    port = free_port()
    options = ("-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off")
    server = run_before(data, programs / "postgres", *options)
    try:
        asyncio.run(fill(port))
    finally:
        server.terminate()
        server.wait(60)
    (folder / "postgres.log").write_text("a line of an earlier version\n")
    return folder


async def look(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("select y from extra") == "kept"
        assert await connection.fetchval("select rolsuper from pg_roles where rolname = current_user") is False
        owned = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relowner = 10"
        assert await connection.fetchval(owned) == 0
        for statement in (
            "insert into extra (y) values ('new')",
            "alter table extra add column z int",
            "alter type mood add value 'bad'",
            "drop view seen",
            "drop sequence alone",
            "drop schema other cascade",
        ):
            await connection.execute(statement)
        for user in ("smsgw", "postgres"):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
                await asyncpg.connect(url.replace(url.split("//")[1].split("@", maxsplit=1)[0], user))
    finally:
        await connection.close()
    await asyncio.to_thread(migrate.upgrade, url)


def test_database_of_an_earlier_version_keeps_its_rows_and_gets_a_password(before: pathlib.Path) -> None:
    server = Postgres(before)
    server.start()
    try:
        asyncio.run(look(server.url))
    finally:
        server.stop()
    again = Postgres(before)
    again.start()
    assert again.url.rpartition("@")[0] == server.url.rpartition("@")[0]
    again.stop()


def test_taking_over_that_was_cut_short_is_done_again(before: pathlib.Path) -> None:
    server = Postgres(before)
    server.start()
    server.kill()
    (before / "password").unlink()
    again = Postgres(before)
    again.start()
    try:
        assert again.url.rpartition("@")[0] != server.url.rpartition("@")[0]
        asyncio.run(look(again.url))
    finally:
        again.stop()


def test_every_nats_server_has_a_password_of_its_own(tmp_path: pathlib.Path) -> None:
    one, other = NatsServer(tmp_path / "one", 4222), NatsServer(tmp_path / "other", 4222)
    assert one.url != other.url
    assert "@" in one.url
