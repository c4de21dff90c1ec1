"""The exceptions of the memory stream."""


class Crash(BaseException):
    """The process ends here; no code of ours may catch it."""


class NotKnown(AssertionError):
    """A test used a feature that the memory stream does not have."""


class ServerError(Exception):
    """The server refused a request: `code` is its err_code, `text` its description."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{text} ({code})")
