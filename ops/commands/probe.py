"""`smsctl probe`: whether a process is alive or ready, for a container's health check. Imports only what it needs."""

import os

import click

from messaging.runtime.config import read_settings
from ops.commands.failure import FAILED, Failure

_ANYWHERE = {"0.0.0.0", "[::]", "::", ""}  # noqa: S104 - compared with, not listened on
_WAIT_S = 3.0


@click.command()
@click.argument("address", required=False)
@click.option("--service", default="live", show_default=True, help="Health service to check; '' means ready.")
def probe(address: str | None, service: str) -> None:
    """Check the health of a process; exit code 1 when it is not healthy.

    ADDRESS is host:port; by default it comes from the settings of the process.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    where = address or _own_address()
    with grpc.insecure_channel(where) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=_WAIT_S, wait_for_ready=True)
        except grpc.RpcError as exc:
            raise Failure(f"{where} does not answer: {exc.code().name}", FAILED) from exc
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Failure(f"{where} is {state}", FAILED)
    click.echo(state)


def _own_address() -> str:
    settings = read_settings(os.environ)
    host, _, port = (settings.process.health_listen or settings.gateway.listen).rpartition(":")
    return f"127.0.0.1:{port}" if host in _ANYWHERE else f"{host}:{port}"
