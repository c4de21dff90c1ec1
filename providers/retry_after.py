"""The header Retry-After, in both of its forms, and as the Unix time that some providers write."""

import calendar
import email.utils
import math

from providers.base import Answer

LONGEST_S = 3600.0
"""A longer pause is cut to this. One probe then asks again, and the provider may repeat its wish."""

_MAX_CHARS = 64
_UNIX_TIMES = 1e9, 1e11
"""A number of seconds this high is a Unix time; above the second bound, one in milliseconds."""


def retry_after_s(answer: Answer) -> float | None:
    """Return the pause that an answer asks for, from 0 to LONGEST_S; None if it is missing or not readable.

    A negative number and a time in the past are 0.
    """
    text = answer.headers.get("retry-after", "")[:_MAX_CHARS].strip()
    if not text:
        return None
    try:
        seconds = _from_number(float(text), answer.received_at)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
            seconds = calendar.timegm(moment.utctimetuple()) - answer.received_at
        except (ValueError, OverflowError):  # not a date, or one that does not exist
            return None
    return min(max(seconds, 0.0), LONGEST_S) if math.isfinite(seconds) else None


def _from_number(number: float, received_at: float) -> float:
    in_seconds, in_milliseconds = _UNIX_TIMES
    if number < in_seconds:
        return number
    return (number / 1000 if number >= in_milliseconds else number) - received_at
