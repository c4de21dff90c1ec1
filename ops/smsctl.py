"""The entry of `smsctl`: until the command line is loaded, Ctrl-C ends the process at once and without a traceback."""

import signal


def main() -> None:
    """Load the command line and run it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ops.cli import main as run

    run()
