"""A lane that is too busy, one message that is always put off, and a quota that is used up are told apart."""

from dispatcher.breaker.throttling import LanePause, Throttling

NOTHING = LanePause()


def test_first_answer_pauses_the_lane_for_a_short_time_whatever_it_asks_for() -> None:
    assert Throttling().throttled("a", 2.0, 0.0, first_time=True) == LanePause(2.0)
    assert Throttling().throttled("a", 3600.0, 0.0, first_time=True) == LanePause(5.0)


def test_second_message_shows_that_the_lane_is_meant() -> None:
    lane = Throttling()
    lane.throttled("a", 4.0, 0.0, first_time=True)
    assert lane.throttled("b", 4.0, 1.0, first_time=True) == LanePause(4.0)


def test_long_pause_of_the_lane_opens_the_breaker() -> None:
    lane = Throttling()
    lane.throttled("a", 3600.0, 0.0, first_time=True)
    assert lane.throttled("b", 3600.0, 1.0, first_time=True) == LanePause(3600.0, opens=True)


def test_message_that_alone_is_put_off_again_and_again_pauses_nothing() -> None:
    lane = Throttling()
    lane.throttled("a", 60.0, 0.0, first_time=True)
    for second in range(1, 100):
        lane.accepted(float(second))
        assert lane.throttled("a", 60.0, float(second), first_time=False) == NOTHING


def test_pause_of_the_lane_that_is_repeated_without_a_message_taken_opens_the_breaker() -> None:
    lane = Throttling()
    found = [lane.throttled("ab"[number % 2], 1.0, float(number), first_time=number < 2) for number in range(20)]
    assert not any(one.opens for one in found[:5])
    assert found[-1].opens


def test_single_messages_put_off_among_many_that_are_taken_soon_pause_nothing() -> None:
    lane = Throttling()
    paused = 0.0
    for number in range(100):
        paused += lane.throttled(f"m-{number}", 1.0, number / 10, first_time=True).seconds
        lane.accepted(number / 10)
    assert paused == 3.0
    assert lane.throttled("next", 1.0, 1000.0, first_time=True) == LanePause(1.0), "it is forgotten after a while"
