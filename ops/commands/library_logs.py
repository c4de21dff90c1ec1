"""Keeps the log lines of libraries out of a command's output."""

import click


class Standalone:
    """Marks a run in which smsctl is the whole process, unlike a command that a test calls."""


def silence_libraries() -> None:
    """Log only critical lines of libraries; does nothing unless smsctl is the whole process."""
    context = click.get_current_context(silent=True)
    if context is None or context.find_object(Standalone) is None:
        return
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("nats").setLevel(logging.CRITICAL)
