"""A screen that goes away is told once, and nothing that is written to it raises."""

import io
import os

from ops.screen import Screen


def test_what_is_written_reaches_the_stream() -> None:
    told: list[bool] = []
    stream = io.StringIO()
    screen = Screen(stream, lambda: told.append(True))
    assert screen.write("Hello") == 5
    screen.flush()
    assert (stream.getvalue(), screen.isatty(), told) == ("Hello", False, [])


def test_pipe_without_a_reader_is_told_once_and_raises_never() -> None:
    told: list[bool] = []
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - it is a descriptor
        screen = Screen(stream, lambda: told.append(True))
        for _ in range(3):
            screen.write("Hello\n")
            screen.flush()
        assert told == [True]
        assert screen.write("x" * 100_000) == 100_000
    assert told == [True]


def test_stream_that_ends_without_a_descriptor_is_told_too() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, f"no space for {len(text)}")

    told: list[bool] = []
    screen = Screen(Full(), lambda: told.append(True))
    assert [screen.write("Hello"), screen.write("Hello")] == [5, 5]
    assert told == [True]
