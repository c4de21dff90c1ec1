"""Takes out of a provider's words whatever repeats the number, the text or a key of the message. Pure.

Providers repeat what they were sent: the number in any spelling, the text, the key, as an id, as a code, or in the
sentence that says what is wrong. Those words are stored, logged and shown, so they pass through here first.
"""

import functools
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Collection

import attrs

from providers.base import Outcome
from providers.national_number import national_digits

MASK = "****"
_MOST_SAID_CHARS = 160

_COMPARED_DIGITS = 8
"""A number is recognized by its last digits, which are the same in every spelling: +233…, 00233…, 0…, with blanks."""
_SHARED_CHARS, _SHARED_SIGNS = 8, 4
"""So many letters and digits in the order of the text are taken for a part of it; the second, if not all are ASCII."""
_LEAST = {False: 4, True: 3}
"""Shorter words may stand in any sentence; the second is for words with a digit."""
_LONG_DIGITS, _LONG_WORD = 9, 20
"""Digits that may be somebody's number, and words that may be a key or an encoded text."""

_USUAL_ERRORS = (
    "account address allowed authentication authorization balance bill blocked body code content country "
    "credit credits daily destination does error exceeded exist expired failed field forbidden format "
    "found from have insufficient internal invalid length limit long message messages missing must name "
    "network number operator parameter password permission phone please provided rate recipient rejected "
    "request required route sender server service sms template text this token unauthorized unknown "
    "unsupported user username valid value with wrong your "
)
_COMMON_WORDS = frozenset(_USUAL_ERRORS.split())
"""Words of usual error texts. One of them alone says nothing about the message; two in the text's order do."""

_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d(?:[\s().+/_-]{0,3}\d)+")
_DIGITS = re.compile(r"\d{4,}")
_RANDOM = re.compile(r"[A-Za-z]{0,4}[_-]?[0-9a-fA-F-]{24,64}")
"""Ids such as a UUID: what one has in common with a text is chance."""


def without_echoes(
    outcome: Outcome, recipient: str, body: str, secrets: Collection[str] = (), *, status_code: str = ""
) -> Outcome:
    """Return the outcome as it may be stored, logged and shown.

    `recipient` is E.164. A code that repeats something becomes `status_code`, an id becomes a mask, and of what the
    provider says the words that repeat something are masked before it joins the detail.
    """
    if not (outcome.provider_message_id or outcome.code or outcome.said):
        return outcome
    message = _Message(national_digits(recipient)[-_COMPARED_DIGITS:], body, secrets)
    found, code, detail = outcome.provider_message_id, outcome.code, outcome.detail
    if message.is_repeated_by(found):
        found = MASK
    if code != status_code and message.is_repeated_by(code):
        code = status_code
    if outcome.said and (said := message.masked(outcome.said)):
        detail = f"{detail}; it says: {said}" if detail else f"the provider says: {said}"
    if (found, code, detail) == (outcome.provider_message_id, outcome.code, outcome.detail):
        return outcome
    return attrs.evolve(outcome, provider_message_id=found, code=code, detail=detail, said="")


@attrs.frozen(repr=False, slots=False)
class _Message:
    """What must not be repeated: the end of the number, the text, and the keys."""

    tail: str
    body: str
    secrets: Collection[str]

    @functools.cached_property
    def text(self) -> str:
        """The text as letters and digits only; most ids are judged without it."""
        return _squeezed(self.body)

    def is_repeated_by(self, words: str) -> bool:
        """Whether an id or a code repeats any of it."""
        if not words:
            return False
        words = _decoded(words) if "%" in words or "&" in words else words
        if self.tail and self.tail in _digits(words):
            return True
        if _RANDOM.fullmatch(words):
            return False
        squeezed = _squeezed(words)
        if self._shares_text(squeezed) or any(len(one) >= 4 and one in words for one in self.secrets):
            return True
        return any(run in self._codes() for run in _DIGITS.findall(words))

    def _shares_text(self, squeezed: str) -> bool:
        if 4 <= len(self.text) <= len(squeezed) and self.text in squeezed:
            return True
        size = _SHARED_CHARS if squeezed.isascii() else _SHARED_SIGNS
        return any(squeezed[start : start + size] in self.text for start in range(len(squeezed) - size + 1))

    def _codes(self) -> set[str]:
        """Return the digits of the text that are long enough for a one-time code."""
        return set(_DIGITS.findall(self.text))

    def masked(self, said: str) -> str:
        """Return a sentence with a mask for every word that repeats something; empty when nothing is left."""
        for secret in self.secrets:
            if len(secret) >= 4:
                said = said.replace(secret, MASK)
        said = _NUMBER.sub(self._masked_number, _decoded(said))
        if self.tail and self.tail in _digits(said):  # spread over the sentence
            said = re.sub(r"\d{2,}", MASK, said)
        found = list(_WORD.finditer(said))
        words = [_squeezed(one[0]) for one in found]
        parts, end = [], 0
        for place, one in enumerate(found):
            pairs = {"".join(words[max(place - 1, 0) : place + 1]), "".join(words[place : place + 2])}
            parts += [said[end : one.start()], MASK if self._repeats(words[place], pairs) else one[0]]
            end = one.end()
        text = " ".join(re.sub(r"\*{4,}(?:\W*\*{4,})+", MASK, "".join([*parts, said[end:]])).split())
        text = text if len(text) <= _MOST_SAID_CHARS else f"{text[: _MOST_SAID_CHARS - 1].rstrip()}…"
        return text if _WORD.search(text) else ""

    def _masked_number(self, found: re.Match[str]) -> str:
        digits = _digits(found[0])
        return MASK if len(digits) >= _LONG_DIGITS or (self.tail and self.tail in digits) else found[0]

    def _repeats(self, word: str, pairs: Collection[str]) -> bool:
        """Whether a word of a sentence repeats something; `pairs` are this word with its neighbors."""
        if len(word) >= _LONG_WORD or self._is_of_a_key(word):
            return True
        least = _LEAST[any(map(str.isdigit, word))] if word.isascii() else 2
        if len(word) >= least and word in self.text:
            return word not in _COMMON_WORDS or any(pair != word and pair in self.text for pair in pairs)
        return self._shares_text(word) or any(run in self.text for run in _DIGITS.findall(word))

    def _is_of_a_key(self, word: str) -> bool:
        if len(word) < _LEAST[any(map(str.isdigit, word))] or word in _COMMON_WORDS:
            return False
        keys = [key for secret in self.secrets if (key := _squeezed(secret))]
        return any(word in key or (len(key) >= 4 and key in word) for key in keys)


def _squeezed(text: str) -> str:
    """Reduce a text to its letters and digits, in lower case."""
    return "".join(filter(str.isalnum, text)).casefold()


def _digits(text: str) -> str:
    """Return all digits of a text in a row, those of every script as ASCII."""
    found = filter(str.isdecimal, text)
    return "".join(found) if text.isascii() else "".join(str(unicodedata.decimal(char)) for char in found)


def _decoded(text: str) -> str:
    """Undo what URLs and HTML do to a text, up to twice."""
    for _ in range(2):
        text = html.unescape(urllib.parse.unquote(text))
    return "".join(char if char.isprintable() else " " for char in text)
