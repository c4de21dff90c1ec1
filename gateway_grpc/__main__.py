"""Runs the gateway: `python -m gateway_grpc`."""

import sys

from messaging.runtime import grpc_core

grpc_core.silence()  # before anything imports grpc

from gateway_grpc.app import run  # noqa: E402
from messaging.runtime.process import run_process  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_process("gateway", run))
