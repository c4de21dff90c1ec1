"""What can go wrong: a process that ends, an answer of the server that refuses, a question that is not known here."""


class Crash(BaseException):
    """The process ends here: nothing of ours may catch it."""


class NotKnown(AssertionError):
    """The memory stream was asked for something that it does not know."""


class ServerError(Exception):
    """The server's answer that something was refused: `code` is its err_code, `text` its description."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{text} ({code})")
