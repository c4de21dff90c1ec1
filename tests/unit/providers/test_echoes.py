"""What a provider repeats of the number, the text and the key is masked; what it says of its own stays."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ACCEPTED, PERMANENT, Outcome
from providers.echoes import MASK, without_echoes
from providers.national_number import national_digits

NUMBER, KEY = "+233241987650", "k3y-of-the-provider"
TEXT = "Your code is 4711. Do not share it with Änne: 您的验证码"


def clean(outcome: Outcome, number: str = NUMBER, text: str = TEXT) -> Outcome:
    return without_echoes(outcome, number, text, [KEY], status_code="400")


SPELLINGS = [
    "+233241987650",
    "233241987650",
    "00233241987650",
    "0241987650",
    "241987650",
    "41987650",
    "+233 24 198 7650",
    "(0)24-198-7650",
    "024.198.76.50",
    "0241/987/650",
    "tel:+233-24-198-7650",
    "%2B233241987650",
    "%252B233%2520241987650",
    "&#43;233241987650",
    "msg_233241987650_7",
    "233x241y987z650",
    "２３３２４１９８７６５０",
    "٢٣٣٢٤١٩٨٧٦٥٠",
    "2332419876501",
    "02 41 98 76 50",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_number_is_masked_in_every_spelling(spelling: str) -> None:
    outcome = clean(Outcome(ACCEPTED, spelling, spelling, said=f"bad number {spelling} given"))
    assert outcome.provider_message_id == MASK
    assert outcome.code == "400"
    assert not any(char.isdecimal() for char in outcome.detail), outcome.detail
    assert outcome.detail.startswith("the provider says: bad number ")
    assert outcome.said == ""


TEXTS = [
    TEXT,
    "Your code is 4711",
    "yourcodeis4711",
    "YOUR-CODE-IS-4711",
    "Your+code+is+4711.+Do+not",
    "code%3A4711",
    "4711",
    "id-4711",
    "is 4711. Do not",
    "您的验证码",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_masked_also_in_part(text: str) -> None:
    outcome = clean(Outcome(ACCEPTED, text, text, said=f"refused: {text}"))
    for shown in (outcome.provider_message_id, outcome.code, outcome.detail):
        for part in ("4711", "yourcode", "share", "您的"):
            assert part not in "".join(filter(str.isalnum, shown)).casefold(), shown


@pytest.mark.parametrize(
    "said", [KEY, f"key {KEY} is wrong", f"?key={KEY}", "k3y%2Dof%2Dthe%2Dprovider", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]
)
def test_key_and_whatever_may_be_one_is_masked(said: str) -> None:
    detail = clean(Outcome(PERMANENT, said=said)).detail
    for part in ("k3y", "provider", "QWxh"):
        assert part not in detail.removeprefix("the provider says: "), detail


HARMLESS = [
    "p-9",
    "SMaf12bc34de56f7890123456789abcdef",
    "01a22345-4711-7d42-8115-86aefb2ec314",
    "1234567890123456789",
    "21211",
    "INVALID_NUMBER",
    "InsufficientBalance",
    "",
]


@pytest.mark.parametrize("words", HARMLESS)
def test_id_and_code_of_its_own_stay(words: str) -> None:
    outcome = clean(Outcome(ACCEPTED, words, words))
    assert (outcome.provider_message_id, outcome.code) == (words, words)


SENTENCES = [
    "The 'To' number is not a valid phone number",
    "insufficient balance on your account",
    "Sender ID not registered (code 21606); see https://docs.example/errors/21606",
    "Rate limit of 10 messages exceeded",
]


@pytest.mark.parametrize("said", SENTENCES)
def test_sentence_of_its_own_stays(said: str) -> None:
    assert clean(Outcome(PERMANENT, detail="refused", said=said)).detail == f"refused; it says: {said}"


def test_usual_word_stays_alone_and_goes_with_its_neighbor_of_the_text() -> None:
    text = "your account balance is 12"
    assert clean(Outcome(PERMANENT, said="no balance left"), text=text).detail.endswith("no balance left")
    assert clean(Outcome(PERMANENT, said="account balance"), text=text).detail == ""


def test_somebody_elses_number_is_masked_too() -> None:
    assert "4915" not in clean(Outcome(PERMANENT, said="not sent to +49 151 2345 6789")).detail


def test_sentence_is_cut() -> None:
    detail = clean(Outcome(PERMANENT, said="no way " * 100)).detail
    assert len(detail) < 200
    assert detail.endswith("…")


def test_country_codes_are_those_of_the_metadata() -> None:
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        rest = "9" * (12 - len(str(code)))
        assert national_digits(f"+{code}{rest}") == rest, regions


@given(
    number=st.from_regex(r"\+[1-9][0-9]{2,14}", fullmatch=True),
    text=st.text(st.characters(), max_size=200),
    words=st.text(st.characters(), max_size=200) | st.sampled_from(SPELLINGS),
    keys=st.lists(st.text(st.characters(), max_size=20), max_size=2),
)
def test_nothing_that_a_provider_writes_breaks_it(number: str, text: str, words: str, keys: list[str]) -> None:
    outcome = without_echoes(Outcome(PERMANENT, words, words, "d", said=words), number, text, keys, status_code="400")
    assert outcome.said == "" or outcome.detail == "d"
    assert outcome.detail.encode()


_SEPARATORS = st.sampled_from(["", " ", "-", ".", "/", " (", ") ", "%20", "+", "_"])


@given(number=st.from_regex(r"\+[1-9][0-9]{9,12}", fullmatch=True), data=st.data())
def test_no_spelling_of_any_number_gets_through(number: str, data: st.DataObject) -> None:
    digits = data.draw(st.sampled_from([number, number[1:], f"00{number[1:]}", f"0{national_digits(number)}"]))
    spelled = "".join(digit + data.draw(_SEPARATORS) for digit in digits)
    outcome = without_echoes(Outcome(PERMANENT, spelled, spelled, said=f"x {spelled} y"), number, "", status_code="400")
    tail = national_digits(number)[-8:]
    for shown in (outcome.provider_message_id, outcome.code, outcome.detail):
        assert tail not in "".join(filter(str.isdecimal, shown))
