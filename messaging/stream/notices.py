"""What keeps each process from its work, on a board that `smsctl lanes` reads."""

import asyncio
from collections.abc import Iterable

import structlog

from messaging.documents import NOTICES, Notice, notice_key, read_notice
from messaging.errors import CorruptRecord, Unavailable
from messaging.runtime.problems import Problem
from messaging.stream import topology as topo
from messaging.stream.buckets import Bucket
from messaging.stream.interface import Connection

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_REFRESH_S = 5.0
_TTL_S = 15


class NoticeBoard:
    """The notices of all processes. `all` raises StreamDown when the server is away."""

    def __init__(self, connection: Connection) -> None:
        self._bucket = Bucket(connection, topo.LIMITS_BUCKET)

    async def put(self, pod: str, notice: Notice) -> None:
        """Write a process's notice, which vanishes after a while; raises StreamDown."""
        await self._bucket.put(notice_key(pod), notice.to_document(), ttl_s=_TTL_S)

    async def all(self) -> dict[str, Notice]:
        """Read the notices by pod; what cannot be read counts as absent."""
        found = {}
        for key, (_, document) in (await self._bucket.all(NOTICES)).items():
            try:
                found[key.removeprefix(NOTICES.removesuffix("*"))] = read_notice(key, document)
            except CorruptRecord as exc:
                _log.debug("unreadable notice", error=str(exc))
        return found


async def post(board: NoticeBoard, pod: str, service: str, problems: Iterable[Problem]) -> None:
    """Keep a process's problems on the board until cancelled: written when they change and before they vanish."""
    posted: tuple[Problem, ...] = ()
    age_s = 0.0
    while True:
        current = tuple(problems)
        if current != posted or (current and age_s >= _REFRESH_S):
            try:
                await board.put(pod, Notice(service, tuple((one.key, one.detail) for one in current)))
                posted, age_s = current, 0.0
            except Unavailable as exc:
                _log.debug("notice not written", error=str(exc))
        await asyncio.sleep(_EVERY_S)
        age_s += _EVERY_S
