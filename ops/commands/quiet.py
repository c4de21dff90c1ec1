"""Keeps what libraries log out of a command's output."""

import click


class Quiet:
    """Marks a run of smsctl in a process of its own."""


def quieten() -> None:
    """Keep what libraries log out of the command's output, when the process is ours alone."""
    context = click.get_current_context(silent=True)
    if context is None or context.find_object(Quiet) is None:
        return
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("nats").setLevel(logging.CRITICAL)
