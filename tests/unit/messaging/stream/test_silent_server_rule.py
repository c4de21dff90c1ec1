"""When a connection leaves a server through which nothing is stored."""

from messaging.stream.silence import PATIENCE_S, Silence


def test_server_is_left_when_nothing_was_stored_for_a_while() -> None:
    silence = Silence()
    assert not silence.is_too_long(100.0, 102.5)
    assert silence.is_too_long(101.5, 100.0 + PATIENCE_S)


def test_one_answer_begins_it_anew() -> None:
    silence = Silence()
    assert not silence.is_too_long(100.0, 102.5)
    silence.end()
    assert not silence.is_too_long(102.0, 100.0 + PATIENCE_S)


def test_next_server_has_as_much_time() -> None:
    silence = Silence()
    assert silence.is_too_long(100.0, 100.0 + PATIENCE_S)
    assert not silence.is_too_long(104.0, 104.1)
    assert silence.is_too_long(105.0, 104.0 + PATIENCE_S)


def test_one_slow_publish_alone_is_no_silence() -> None:
    assert not Silence().is_too_long(100.0, 100.0 + PATIENCE_S - 0.1)
