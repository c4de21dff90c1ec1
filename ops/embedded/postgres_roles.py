"""The roles of an embedded PostgreSQL: who may connect, from where, and what each owns.

- `postgres` is the superuser. It has no password, and connects only through the socket in the data folder, which has
  mode 0700.
- `smsgw` is what our processes use: over TCP, with a password. It owns its database and is no superuser, so it can read
  no file of the machine and start no program.

Folders of earlier versions have only `smsgw`, as a superuser without a password; they are taken over.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import pathlib
import secrets
from collections.abc import AsyncIterator

import asyncpg

from ops.embedded.child import LOCALHOST, START_S

SUPERUSER = "postgres"
USER = DATABASE = "smsgw"

HOST_BASED_ACCESS = f"""\
# Written again at every start.
local all all trust
host all {USER} {LOCALHOST}/32 scram-sha-256
"""
"""pg_hba.conf. The socket is in the data folder, so that only the folder's owner and root reach it."""

_ITERATIONS = 4096
_OWNED = """
select format('alter schema %I owner to smsgw', nspname) from pg_namespace
 where nspowner = 10 and nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
union all
select format('alter table %s owner to smsgw', c.oid::regclass)
  from pg_class c join pg_namespace n on n.oid = relnamespace
 where relowner = 10 and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
   and nspname !~ '^pg_' and nspname <> 'information_schema'
   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and relkind = 'S')
union all
select format('alter routine %s owner to smsgw', p.oid::regprocedure)
  from pg_proc p join pg_namespace n on n.oid = pronamespace
 where proowner = 10 and nspname !~ '^pg_' and nspname <> 'information_schema'
union all
select format('alter type %s owner to smsgw', t.oid::regtype)
  from pg_type t join pg_namespace n on n.oid = typnamespace
 where typowner = 10 and typrelid = 0 and typelem = 0 and typtype in ('d', 'e', 'r')
   and nspname !~ '^pg_' and nspname <> 'information_schema'
"""
"""The statements that give what the first role (always number 10) owns to ours; sequences follow their tables."""


def verifier_of(password: str) -> str:
    """Return what PostgreSQL stores of a password (RFC 5803), so that the password is in no statement and no log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salt64}${stored64}:{server64}"


@contextlib.asynccontextmanager
async def superuser(
    data: pathlib.Path, port: int, database: str, user: str = SUPERUSER
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect through the socket in the data folder; raises asyncpg's exceptions."""
    # A socket's path has at most 107 bytes; this one is short wherever the folder is.
    folder = os.open(data, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = await asyncpg.connect(
            host=f"/proc/self/fd/{folder}", port=port, user=user, database=database, timeout=START_S
        )
    finally:
        os.close(folder)
    try:
        yield connection
    finally:
        await connection.close()


async def set_up(data: pathlib.Path, port: int, password: str) -> None:
    """Make the roles and the database, or take over those of an earlier version; repeating it is harmless."""
    await _name_the_superuser(data, port)
    async with superuser(data, port, SUPERUSER) as connection:
        if not await connection.fetchval("select exists(select from pg_roles where rolname = $1)", USER):
            await connection.execute(f"create role {USER}")
        rights = "login nosuperuser nocreatedb nocreaterole noreplication nobypassrls"
        await connection.execute(f"alter role {USER} {rights} password '{verifier_of(password)}'")
        names = "select datname from pg_database where datallowconn and not datistemplate and datname <> $1"
        databases = [str(row[0]) for row in await connection.fetch(names, SUPERUSER)]
        if DATABASE not in databases:
            await connection.execute(f"create database {DATABASE} owner {USER}")
        for name in databases:
            await connection.execute(f'alter database "{name}" owner to {USER}')
    for name in databases:
        async with superuser(data, port, name) as connection:
            for row in await connection.fetch(_OWNED):
                await connection.execute(row[0])


async def _name_the_superuser(data: pathlib.Path, port: int) -> None:
    """Rename the superuser of an earlier version, which had our user's name."""
    try:
        async with superuser(data, port, SUPERUSER):
            return
    except asyncpg.InvalidAuthorizationSpecificationError:
        pass
    async with superuser(data, port, SUPERUSER, USER) as connection:
        # ALTER ROLE refuses to rename the role that runs it.
        await connection.execute("update pg_authid set rolname = 'postgres' where oid = 10")


async def create_database(data: pathlib.Path, port: int, name: str, template: str | None) -> None:
    """Create a database that our user owns, empty or as a copy."""
    async with superuser(data, port, SUPERUSER) as connection:
        copied = f' template "{template}"' if template else ""
        await connection.execute(f'create database "{name}" owner {USER}{copied}')
