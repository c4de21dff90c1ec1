"""Creates and updates the streams as the topology says, and refuses changes that would lose data."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs

from messaging.errors import ServerTooOld, StreamDown, TooFewServers, TopologyConflict
from messaging.runtime.backoff import Backoff, retry
from messaging.runtime.config import Settings
from messaging.stream import topology as topo
from messaging.stream.interface import NOT_FOUND_CODES, ApiError, Connection

_NOT_CLUSTERED = 10074
_REQUIRED_FLAGS = ("allow_msg_schedules", "allow_msg_ttl")
"""An older server ignores these flags: then they are missing in its answer."""
_CHANGE_TIMEOUT_S = 10.0
_LEADERLESS = Backoff(first_s=0.2, longest_s=0.2)
LEADERLESS_S = 30.0
"""How long a starting process waits for streams without a leader: an election takes 4 to 9 seconds."""


@attrs.frozen
class Finding:
    """The state of one stream or consumer.

    `state` is missing, created, as wanted, changed, differs, conflict or not wanted; `details` says what differs.
    """

    name: str
    state: str
    details: tuple[str, ...] = ()
    messages: int | None = None
    size_bytes: int | None = None


async def check_server(connection: Connection) -> int:
    """Return the server's JetStream API level; raises ServerTooOld when it is lower than that of version 2.14."""
    info = await connection.api("INFO")
    level = int(info.get("api", {}).get("level", 0))
    if level < topo.MIN_API_LEVEL:
        raise ServerTooOld(f"API level {level}", f"level {topo.MIN_API_LEVEL}")
    return level


async def ensure(
    connection: Connection, settings: Settings, providers: list[str], *, patience_s: float = 0.0
) -> list[Finding]:
    """Create what is missing and change what may change; raises StreamDown, or a SetupError that says what to fix.

    Nothing is changed when anything conflicts. While the stream does not answer, it is tried again for `patience_s`: a
    stream whose leader has died has none for some seconds, and a process that starts meanwhile should wait.
    """
    try:
        return await retry(partial(_ensure, connection, settings, providers), _LEADERLESS, StreamDown, patience_s)
    except ApiError as exc:
        if exc.code == _NOT_CLUSTERED:
            raise TooFewServers(settings.servers.replicas) from exc
        raise


async def _ensure(connection: Connection, settings: Settings, providers: list[str]) -> list[Finding]:
    await check_server(connection)
    wanted = topo.streams(settings, providers)
    infos = {stream.name: await _info(connection, f"STREAM.INFO.{stream.name}") for stream in wanted}
    for stream in wanted:
        live = infos[stream.name]
        found = topo.differences(live["config"], stream.config) if live else []
        if conflicts := [str(one) for one in found if one.loses_data]:
            raise TopologyConflict(stream.name, conflicts)
    findings = []
    for stream in wanted:
        findings.append(await _ensure_stream(connection, stream, infos[stream.name]))
        for durable, config in stream.consumers.items():
            findings.append(await _ensure_consumer(connection, stream.name, durable, config))
    return findings


async def ensure_queue(connection: Connection, settings: Settings, provider: str) -> None:
    """Create the consumers of one provider's queue, for one that no process has in its file; raises StreamDown."""
    for stream in topo.streams(settings, [provider]):
        if stream.name == topo.SEND:
            for durable, config in stream.consumers.items():
                await _ensure_consumer(connection, stream.name, durable, config)


async def inspect(connection: Connection, settings: Settings, providers: list[str]) -> list[Finding]:
    """Compare everything with the topology and change nothing; also finds consumers of providers not in the file."""
    findings = []
    for stream in topo.streams(settings, providers):
        live = await _info(connection, f"STREAM.INFO.{stream.name}")
        findings.append(_finding(stream.name, live, stream.config, live and live["state"]))
        if live is None:
            continue
        for durable, config in stream.consumers.items():
            info = await _info(connection, f"CONSUMER.INFO.{stream.name}.{durable}")
            findings.append(_finding(f"{stream.name}/{durable}", info, config, None))
        listed = await connection.api(f"CONSUMER.NAMES.{stream.name}", {"offset": 0})
        extra = sorted(set(listed.get("consumers") or ()) - set(stream.consumers))
        findings += [
            Finding(f"{stream.name}/{name}", "not wanted", ("no provider of the file has it",)) for name in extra
        ]
    return findings


async def _ensure_stream(connection: Connection, stream: topo.Stream, live: Mapping[str, Any] | None) -> Finding:
    body = {"name": stream.name, **stream.config}
    if live is None:
        made = await connection.api(f"STREAM.CREATE.{stream.name}", body, timeout_s=_CHANGE_TIMEOUT_S)
        for flag in _REQUIRED_FLAGS:
            if stream.config.get(flag) and not made["config"].get(flag):
                raise ServerTooOld(f"a stream without {flag}", f"level {topo.MIN_API_LEVEL}")
        return Finding(stream.name, "created")
    found = topo.differences(live["config"], stream.config)
    if found:
        await connection.api(f"STREAM.UPDATE.{stream.name}", {**live["config"], **body}, timeout_s=_CHANGE_TIMEOUT_S)
        return Finding(stream.name, "changed", tuple(map(str, found)))
    return Finding(stream.name, "as wanted")


async def _ensure_consumer(connection: Connection, stream: str, durable: str, config: Mapping[str, Any]) -> Finding:
    name = f"{stream}/{durable}"
    live = await _info(connection, f"CONSUMER.INFO.{stream}.{durable}")
    if live is not None and not topo.differences(live["config"], config):
        return Finding(name, "as wanted")
    body = {"stream_name": stream, "config": {"durable_name": durable, **(live or {}).get("config", {}), **config}}
    await connection.api(f"CONSUMER.DURABLE.CREATE.{stream}.{durable}", body, timeout_s=_CHANGE_TIMEOUT_S)
    return Finding(name, "changed" if live else "created")


def _finding(name: str, live: Mapping[str, Any] | None, config: Mapping[str, Any], state: Any) -> Finding:
    if live is None:
        return Finding(name, "missing")
    found = topo.differences(live["config"], config)
    verdict = "as wanted" if not found else "conflict" if any(one.loses_data for one in found) else "differs"
    messages, size = (state["messages"], state["bytes"]) if state else (live.get("num_pending"), None)
    return Finding(name, verdict, tuple(map(str, found)), messages, size)


async def _info(connection: Connection, verb: str) -> dict[str, Any] | None:
    try:
        return await connection.api(verb)
    except ApiError as exc:
        if exc.code in NOT_FOUND_CODES:
            return None
        raise
