"""A number without its country code. Pure."""

_ONE = ("1", "7")
_TWO = (
    *("20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48", "49"),
    *("51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66"),
    *("81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98"),
)
"""Country codes of one and of two digits; all others have three."""


def national_digits(number: str) -> str:
    """Return the digits of an E.164 number behind its country code."""
    digits = number.lstrip("+")
    country = 1 if digits[:1] in _ONE else 2 if digits[:2] in _TWO else 3
    return digits[country:] if len(digits) > country else digits
