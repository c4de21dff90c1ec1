"""One run: the system, the attacks one after the other, and normal calls that are measured meanwhile."""

import asyncio
import json
import pathlib
import sys
import time
import uuid
from collections.abc import Callable, Sequence

import attrs
import grpc
from sms.gateway.v1 import gateway_pb2 as api
from sms.gateway.v1 import gateway_pb2_grpc as rpc

from ops.percentile import percentile
from ops.system import Plan, System
from ops.up import wait_until_serving

_GATEWAY = "gateway-1"
_EVERY_S = 0.05
_MIB = 1024 * 1024
_SETTLE_S = 10.0
_BUSY, _TRIES, _PAUSE_S = 0.1, 4, 10.0
TOO_BUSY = "this machine is too busy to measure"


@attrs.frozen
class Attack:
    """One attack, and its bounds: p99 of a normal call and growth of memory meanwhile, and memory kept afterwards."""

    kind: str
    amount: int
    seconds: float
    p99_s: float
    peak_mib: int
    kept_mib: int = 64


FULL = (
    Attack("flood", 100_000, 0.0, 0.25, 192),
    Attack("refused", 50, 15.0, 0.25, 192),
    Attack("full", 8, 15.0, 0.25, 256),
    Attack("large", 400, 0.0, 0.5, 1024),
    Attack("empty", 8, 10.0, 0.25, 192),
    Attack("watch", 5_000, 30.0, 0.05, 256, 128),
)
SHORT = (
    Attack("flood", 6_000, 0.0, 0.25, 192),
    Attack("refused", 50, 5.0, 0.25, 192),
    Attack("full", 8, 5.0, 0.25, 256),
    Attack("watch", 500, 10.0, 0.05, 128),
)


@attrs.frozen
class Finding:
    """What was measured during one attack, and which bounds it broke."""

    attack: Attack
    answers: dict[str, int]
    calls: int
    failed: int
    p50_s: float
    p99_s: float
    peak_mib: float
    starved: float
    broken: Sequence[str]

    def line(self) -> str:
        """Return one line for people."""
        verdict = "; ".join(self.broken) or "held"
        return (
            f"{self.attack.kind:8} {self.attack.amount:>7}  {self.calls:>5} normal calls, "
            f"p50 {self.p50_s * 1000:6.1f} ms, p99 {self.p99_s * 1000:7.1f} ms, "
            f"memory {self.peak_mib:+7.1f} MiB, waited for the machine {self.starved:4.0%}  "
            f"{verdict}  {json.dumps(self.answers)}"
        )


@attrs.define
class _NormalCaller:
    """Sends and looks up messages at a steady pace, and notes how long each call took."""

    stub: rpc.SmsGatewayServiceStub
    seconds: list[float] = attrs.Factory(list)
    failed: list[str] = attrs.Factory(list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._call())
                await asyncio.sleep(_EVERY_S)

    async def _call(self) -> None:
        request = api.SendSmsRequest(recipient="+233201234567", body="hello", request_id=uuid.uuid4().hex)
        try:
            for _ in range(2):
                began = time.monotonic()
                await self.stub.SendSms(request, timeout=30)
                self.seconds.append(time.monotonic() - began)
        except grpc.aio.AioRpcError as failed:
            self.failed.append(failed.code().name)


def rss_mib(pid: int) -> float:
    """Return the memory that a process holds."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def waited_s(pid: int) -> float:
    """Return how long a process's event loop has waited for a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


async def run(folder: pathlib.Path, attacks: Sequence[Attack], say: Callable[[str], None]) -> list[str]:
    """Attack a gateway of its own; returns what was broken."""
    system = System(Plan(folder, providers=("p1",), projectors=0, durable=False))
    try:
        await asyncio.to_thread(system.start)
        if not await wait_until_serving(system):
            return ["the gateway does not serve"]
        return await _attacks(system, attacks, say)
    finally:
        await asyncio.to_thread(system.stop)


async def _attacks(system: System, attacks: Sequence[Attack], say: Callable[[str], None]) -> list[str]:
    address, pid = system.gateways[0], system.processes[_GATEWAY].pid
    broken: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = rpc.SmsGatewayServiceStub(channel)
        await _warm_up(stub)
        before = rss_mib(pid)
        for attack in attacks:
            for left in reversed(range(_TRIES)):
                finding = await _attack(address, pid, stub, attack)
                say(finding.line())
                if not left or not any(one.startswith(TOO_BUSY) for one in finding.broken):
                    break
                await asyncio.sleep(_PAUSE_S)
            broken += [f"{attack.kind}: {one}" for one in finding.broken]
            kept = await _settled(pid, before, attack.kept_mib)
            say(f"{'':17} memory afterwards {kept:+.1f} MiB of {before:.0f}")
            if kept > attack.kept_mib:
                broken.append(f"{attack.kind}: the gateway holds {kept:.0f} MiB more than before")
    log = (system.logs / f"{_GATEWAY}.log").read_text(errors="replace")
    if "Traceback" in log:
        broken.append("the gateway's log has a traceback")
    return broken


async def _settled(pid: int, before: float, bound_mib: int) -> float:
    """Return how much more memory the gateway holds, once it has given back what it does not need."""
    end = time.monotonic() + _SETTLE_S
    while (kept := rss_mib(pid) - before) > bound_mib and time.monotonic() < end:
        await asyncio.sleep(_EVERY_S)
    return kept


async def _warm_up(stub: rpc.SmsGatewayServiceStub) -> None:
    for _ in range(300):
        await stub.SendSms(api.SendSmsRequest(recipient="+233201234567", body="hello"), timeout=30)


async def _attack(address: str, pid: int, stub: rpc.SmsGatewayServiceStub, attack: Attack) -> Finding:
    before, caller = rss_mib(pid), _NormalCaller(stub)
    began, waited = time.monotonic(), waited_s(pid)
    attacker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.load.hostile.attackers",
        attack.kind,
        address,
        str(attack.amount),
        str(attack.seconds),
        stdout=asyncio.subprocess.PIPE,
    )
    assert attacker.stdout is not None
    peak, answers = 0.0, dict[str, int]()
    # Watchers are a state to be in, and not an attack while they arrive: normal calls count from then on.
    normal = None if attack.kind == "watch" else asyncio.create_task(caller.run())
    try:
        while line := await _line(attacker.stdout):
            peak = max(peak, rss_mib(pid) - before)
            if line == "ready" and normal is None:
                normal = asyncio.create_task(caller.run())
            elif line == "ending" and normal is not None:
                normal.cancel()
            elif line.startswith("{"):
                answers = json.loads(line)
    finally:
        if normal is not None:
            normal.cancel()
        if attacker.returncode is None:
            attacker.kill()
        await attacker.wait()
    starved = (waited_s(pid) - waited) / (time.monotonic() - began)
    return _judge(attack, answers, caller, peak, starved)


async def _line(stream: asyncio.StreamReader) -> str:
    """Return the next line, or `tick` when a moment passed without one; empty at the end."""
    try:
        async with asyncio.timeout(0.1):
            return (await stream.readline()).decode().strip()
    except TimeoutError:
        return "tick"


def _judge(attack: Attack, answers: dict[str, int], caller: _NormalCaller, peak: float, starved: float) -> Finding:
    broken = []
    p99 = percentile(caller.seconds, 99)
    if len(caller.seconds) < 20 or caller.failed:
        broken.append(f"{len(caller.seconds)} normal calls were answered, {len(caller.failed)} failed")
    elif p99 > attack.p99_s and starved > _BUSY:
        broken.append(f"{TOO_BUSY}: the gateway waited {starved:.0%} of the time for a processor")
    elif p99 > attack.p99_s:
        broken.append(f"p99 of normal calls is {p99 * 1000:.0f} ms, over {attack.p99_s * 1000:.0f}")
    if peak > attack.peak_mib:
        broken.append(f"memory grew by {peak:.0f} MiB, over {attack.peak_mib}")
    if not answers or answers.get("UNKNOWN") or (attack.kind == "flood" and answers.get("OK")):
        broken.append("attackers got no answers, or wrong ones")
    p50 = percentile(caller.seconds, 50)
    return Finding(attack, answers, len(caller.seconds), len(caller.failed), p50, p99, peak, starved, broken)
