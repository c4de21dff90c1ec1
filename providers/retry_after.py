"""The header Retry-After, in both of its forms."""

import calendar
import email.utils
import math

from providers.base import Answer

_MAX_S = 86_400.0
_MAX_CHARS = 64


def retry_after_s(answer: Answer) -> float | None:
    """Return the pause that an answer asks for, in seconds from 0 to one day; None if it is missing or invalid."""
    text = answer.headers.get("retry-after", "")[:_MAX_CHARS].strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
            seconds = calendar.timegm(moment.utctimetuple()) - answer.received_at
        except (ValueError, OverflowError):  # not a date, or one that does not exist
            return None
    return min(max(seconds, 0.0), _MAX_S) if math.isfinite(seconds) else None
