"""Answers to the `$JS.API.<verb>` requests that this project makes."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.memory_stream.faults import NotKnown, ServerError
from tests.memory_stream.log import Log
from tests.memory_stream.stream import MemoryStream

API_LEVEL = 5
_LEADER = "memory"
_SUBJECTS_PAGE, _CONSUMERS_PAGE, _NAMES_PAGE = 100_000, 256, 1024
Body = Mapping[str, Any]


def answer(stream: MemoryStream, verb: str, body: Body) -> dict[str, Any]:
    """Answer one request; raises ServerError when it is refused, NotKnown when the verb is missing here."""
    for prefix, answering in _VERBS.items():
        words = prefix.split(".")
        asked = verb.split(".")
        if asked[: len(words)] == words:
            return answering(stream, body, *asked[len(words) :])
    raise NotKnown(f"$JS.API.{verb}")


def _account(stream: MemoryStream, _body: Body) -> dict[str, Any]:
    limits = {"max_memory": -1, "max_storage": -1, "max_streams": -1, "max_consumers": -1}
    return {
        "type": "io.nats.jetstream.api.v1.account_info_response",
        "memory": 0,
        "storage": stream.size_bytes,
        "streams": len(stream.logs),
        "consumers": sum(map(len, stream.queues.values())),
        "limits": limits,
        "api": {"level": API_LEVEL, "total": 0, "errors": 0},
    }


def _stream_info(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    log = stream.log(name)
    subjects: dict[str, int] = {}
    if (pattern := body.get("subjects_filter")) is not None:
        for message in log.matching(pattern):
            subjects[message.subject] = subjects.get(message.subject, 0) + 1
    offset = body.get("offset", 0)
    page = dict(sorted(subjects.items())[offset : offset + _SUBJECTS_PAGE])
    info = {
        "type": "io.nats.jetstream.api.v1.stream_info_response",
        "total": len(subjects),
        "offset": offset if subjects else 0,
        "limit": _SUBJECTS_PAGE if subjects else 0,
        "config": {"name": name, **log.config},
        "state": _state(stream, log) | ({"subjects": page} if page else {}),
        "cluster": {"leader": _LEADER},
        "ts": datetime.fromtimestamp(stream.agenda.now, UTC).isoformat(),
    }
    if "sources" in log.config:
        info["sources"] = [{"lag": 0, "active": 0, **source} for source in log.config["sources"]]
    return info


def _state(stream: MemoryStream, log: Log) -> dict[str, Any]:
    subjects = {message.subject for message in log.messages.values()}
    return {
        "messages": len(log.messages),
        "bytes": log.size_bytes,
        "first_seq": min(log.messages, default=log.last_sequence + 1 if log.last_sequence else 0),
        "last_seq": log.last_sequence,
        "consumer_count": len(stream.queues[log.name]),
        **({"num_subjects": len(subjects)} if subjects else {}),
    }


def _create(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    config = {key: value for key, value in body.items() if key != "name"}
    if name in stream.logs and stream.logs[name].config != config:
        raise ServerError(10058, "stream name already in use with a different configuration")
    if config.get("num_replicas", 1) > 1:
        raise ServerError(10074, "replicas > 1 not supported in non-clustered mode")
    if name not in stream.logs:
        stream.make(name, config)
    return _stream_info(stream, {}, name)


def _update(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    stream.log(name).config.update({key: value for key, value in body.items() if key != "name"})
    return _stream_info(stream, {}, name)


def _consumer_create(stream: MemoryStream, body: Body, name: str, durable: str) -> dict[str, Any]:
    stream.log(name)
    config = {key: value for key, value in body["config"].items() if key not in {"durable_name", "name"}}
    return stream.make_consumer(name, durable, config).info()


def _consumer_info(stream: MemoryStream, _body: Body, name: str, durable: str) -> dict[str, Any]:
    return stream.queue(name, durable).info()


def _consumer_list(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    stream.log(name)
    queues = [queue.info() for _, queue in sorted(stream.queues[name].items())]
    offset = body.get("offset", 0)
    page = queues[offset : offset + _CONSUMERS_PAGE]
    return {"total": len(queues), "offset": offset, "limit": _CONSUMERS_PAGE, "consumers": page}


def _consumer_names(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    stream.log(name)
    names = sorted(stream.queues[name])
    offset = body.get("offset", 0)
    page = names[offset : offset + _NAMES_PAGE]
    return {"total": len(names), "offset": offset, "limit": _NAMES_PAGE, "consumers": page}


def _delete(stream: MemoryStream, body: Body, name: str) -> dict[str, Any]:
    if not stream.log(name).remove(body["seq"]):
        raise ServerError(10057, "no message found")
    return {"success": True}


def _step_down(_stream: MemoryStream, _body: Body, _name: str) -> dict[str, Any]:
    raise ServerError(10010, "JetStream clustering support required")


_VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "INFO": _account,
    "STREAM.INFO": _stream_info,
    "STREAM.CREATE": _create,
    "STREAM.UPDATE": _update,
    "STREAM.MSG.DELETE": _delete,
    "STREAM.LEADER.STEPDOWN": _step_down,
    "CONSUMER.DURABLE.CREATE": _consumer_create,
    "CONSUMER.INFO": _consumer_info,
    "CONSUMER.LIST": _consumer_list,
    "CONSUMER.NAMES": _consumer_names,
}
