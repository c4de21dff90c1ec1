"""A provider that refuses everything is found; wrong numbers are not taken for it."""

from dispatcher.breaker.refusals import Refusals

LIMIT = 10


def refuse(one: Refusals, count: int, code: str = "400", start: int = 0) -> list[str]:
    return [one.refused(f"+{number}", code, f"m-{number}") for number in range(start, start + count)]


def test_many_recipients_refused_alike_in_a_row_are_not_believed_and_the_reason_names_the_code() -> None:
    one = Refusals(LIMIT)
    found = refuse(one, LIMIT + 2)
    assert found[: LIMIT - 1] == [""] * (LIMIT - 1)
    assert found[LIMIT - 1] == "10 different recipients in a row were refused with code 400"
    assert all(found[LIMIT:])
    assert one.take_failed() == [f"m-{number}" for number in range(LIMIT - 1)], "they are told"
    assert one.take_failed() == [], "once"


def test_few_wrong_numbers_are_believed() -> None:
    assert not any(refuse(Refusals(LIMIT), LIMIT - 1))


def test_one_recipient_refused_again_and_again_is_one() -> None:
    one = Refusals(LIMIT)
    assert not any(one.refused("+1", "400", f"m-{number}") for number in range(100))


def test_message_that_is_taken_ends_the_row() -> None:
    one = Refusals(LIMIT)
    for _ in range(5):
        assert not any(refuse(one, LIMIT - 1))
        one.accepted()


def test_codes_that_differ_each_time_hide_nothing_for_long() -> None:
    one = Refusals(LIMIT)
    found = [one.refused(f"+{number}", f"error-{number}", f"m-{number}") for number in range(2 * LIMIT)]
    assert not any(found[:-1])
    assert found[-1] == "20 different recipients in a row were refused, the last with code error-19"
