"""Runs simulated providers until it gets a signal: `python -m ops.simulator --provider p1:9101 --provider p2:0`."""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

from ops.simulator.behaviour import Behaviour, BehaviourError
from ops.simulator.server import Simulator

PORT_MAX = 65535


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 after a signal, 1 when a port is taken, 2 for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    ports = dict(options.provider)
    if len(ports) < len(options.provider):
        parser.error("argument --provider: a name is given twice")
    api_key = None
    if options.api_key_env is not None:
        api_key = os.environ.get(options.api_key_env) or parser.error(
            f"argument --api-key-env: {options.api_key_env} is not set"
        )
    try:
        behaviour = Behaviour(latency_s=options.latency)
    except BehaviourError as error:
        parser.error(str(error))
    simulator = Simulator(dict.fromkeys(ports, behaviour), ports=ports, api_key=api_key, host=options.host)
    _allow_many_connections()
    try:
        asyncio.run(_run(simulator, options.ports_file))
    except OSError as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.simulator", description="Simulated SMS providers.")
    parser.add_argument("--provider", action="append", required=True, type=_named_port, metavar="NAME:PORT")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument(
        "--latency", type=float, default=0.0, metavar="SECONDS", help="delay of every answer, until changed"
    )
    parser.add_argument("--ports-file", type=Path, metavar="FILE", help="where to write {name: port} once all listen")
    parser.add_argument("--api-key-env", metavar="NAME", help="the variable that holds the key that callers must send")
    return parser


def _named_port(text: str) -> tuple[str, int]:
    name, _, port = text.rpartition(":")
    if not name or not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PORT, with port 0 for a free one")
    return name, int(port)


def _allow_many_connections() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(simulator: Simulator, ports_file: Path | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with simulator:
        if ports_file is not None:
            ports = {name: provider.port for name, provider in simulator.providers.items()}
            _write_whole(ports_file, json.dumps(ports) + "\n")
        for name, provider in simulator.providers.items():
            print(f"{name} {provider.url}", flush=True)
        await stopping.wait()


def _write_whole(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees all of it or none."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
