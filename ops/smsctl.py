"""The entry of `smsctl`: Ctrl-C while the command line is loaded ends the process at once, with one line."""

import os


def main() -> None:
    """Load the command line and run it."""
    try:
        import signal  # takes milliseconds: it is interruptible as well

        signal.signal(signal.SIGINT, _end)
        from ops.cli import main as run

        try:
            run()
        finally:
            signal.signal(signal.SIGINT, _end)  # what libraries do at the exit would print a traceback
    except KeyboardInterrupt:
        _end()


def _end(*_: object) -> None:
    os.write(2, b"smsctl: interrupted\n")
    os._exit(130)  # as failure.INTERRUPTED, which is not loaded yet
