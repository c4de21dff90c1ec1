"""Runs the gateway: `python -m gateway_grpc`."""

import sys

from gateway_grpc.app import run
from messaging.runtime.process import run_process

if __name__ == "__main__":
    sys.exit(run_process("gateway", run))
