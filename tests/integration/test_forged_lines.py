"""Callers, libraries and exceptions cannot write a line of their own into a log, nor move a terminal's cursor."""

import asyncio
import contextlib
import json
import pathlib
import re
import socket
import struct
import subprocess
import sys

import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.system import System

ATTACK = """
import logging, sys, threading, warnings
from messaging.runtime.config import ProcessSettings
from messaging.runtime.logs import configure_logging
import structlog
configure_logging(ProcessSettings(pod="g-1", log_format=sys.argv[1]), "gateway")
evil = '\\n{"event": "forged"}\\r\\x1b[31m\\x9b\\u202e\\u2028\\x7f'
structlog.get_logger("a").warning("ours", detail=evil, **{evil: 1})
logging.getLogger("grpc").error("theirs %s", evil)
logging.getLogger("aiohttp").error("does not fit %d", evil)
try:
    raise ValueError(evil)
except ValueError:
    logging.getLogger("asyncio").exception("caught")
    structlog.get_logger("a").exception("caught by us")
warnings.warn(evil)
thread = threading.Thread(target=lambda: 1 / len(evil[:0]))
thread.start()
thread.join()
class Late:
    def __del__(self):
        raise OSError(evil)
Late()
raise RuntimeError(evil)
"""


def said_under_attack(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", ATTACK, form], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr.decode()


def test_every_line_is_json_whatever_libraries_and_exceptions_say() -> None:
    lines = said_under_attack("json").removesuffix("\n").split("\n")
    events = [json.loads(line)["event"] for line in lines if line.startswith('{"') and line.isascii()]
    assert len(events) >= 8
    assert len(lines) - len(events) == 0, [line for line in lines if not line.startswith('{"')]
    assert "forged" not in events
    assert all(line.isprintable() for line in lines)


def test_no_line_of_text_is_forged_or_moves_the_cursor() -> None:
    told = re.sub("\x1b\\[[0-9;]*m", "", said_under_attack("text"))
    lines = told.removesuffix("\n").split("\n")
    assert not [line for line in lines if line.startswith('{"event"')]
    assert all(line.isprintable() for line in lines)


EVIL = b'\n{"event": "forged", "level": "info"}\n\x1b[31mred\xe2\x80\xae'
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CALL = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/sms.gateway.v1.SmsGatewayService/GetStatus",
    b":authority": b"x",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}
NAMES = (
    *(b"traceparent", b"tracestate", b"grpc-timeout", b"grpc-encoding", b"grpc-trace-bin", b"te", b"user-agent"),
    *(b"x-request-id", b":path", b":authority", b"content-type", b"bad\nname"),
)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """Encode a header without compression."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def attacks() -> list[bytes]:
    """What a hostile caller sends after the preface: GOAWAY frames, headers of any bytes, a broken block."""
    found = [frame(7, 0, 0, struct.pack(">II", 0, code) + EVIL) for code in (0, 1, 2, 11, 2**31)]
    for name in NAMES:
        block = b"".join(header(key, value) for key, value in {**CALL, name: EVIL}.items())
        found.append(frame(1, 4, 1, block) + frame(0, 1, 1, b"\0\0\0\0\0"))
    found.append(frame(1, 4, 1, b"\xff" * 6 + EVIL))
    found.append(frame(0, 1, 1, EVIL))
    return found


def send(address: str, words: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as peer, contextlib.suppress(OSError):
        peer.sendall(words)
        peer.settimeout(0.3)
        while peer.recv(65536):
            pass


async def call(address: str, traceparent: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub, metadata = rpc.SmsGatewayServiceStub(channel), (("traceparent", traceparent), ("tracestate", traceparent))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.GetStatus(api.GetStatusRequest(request_id="nobody"), metadata=metadata, timeout=5)


async def test_no_caller_writes_a_line_into_the_logs(system: System) -> None:
    [address, *_] = system.gateways
    for words in attacks():
        await asyncio.to_thread(send, address, PREFACE + frame(4, 0, 0, b"") + words)
    await asyncio.to_thread(send, address, b"GET / HTTP/1.1\r\nx: " + EVIL)
    for garbage in ("00-x", "00-" + "0" * 500, "{}", "~" * 200):
        await call(address, garbage)
    assert system.dead() == []
    told = 0
    for path in pathlib.Path(system.folder, "log").glob("*.log"):
        for line in path.read_bytes().decode().removesuffix("\n").split("\n") if path.stem != "simulator" else ():
            said = json.loads(line)
            assert line.isprintable()
            assert said["event"] != "forged"
            assert said["service"]
            told += path.stem.startswith("gateway")
    assert told
