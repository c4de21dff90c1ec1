"""Finds a provider that refuses everything: many recipients in a row, and none taken. Pure.

Some wrong numbers are normal. Many different recipients in a row that are refused alike are a fault of ours or of the
account, and it would be wrong to end the messages for it.
"""


class Refusals:
    """One pod's view of one provider. `limit` different recipients refused alike in a row are too many to be chance."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._alike: dict[str, set[str]] = {}
        self._all: set[str] = set()
        self._failed: list[str] = []

    def refused(self, recipient: str, code: str, message_id: str) -> str:
        """Note a refusal for good; returns why it is not believed, or nothing when it is."""
        alike = self._alike.setdefault(code, set())
        alike.add(recipient)
        self._all.add(recipient)
        if len(alike) >= self._limit:
            return f"{len(alike)} different recipients in a row were refused with code {code or 'none'}"
        if len(self._all) >= 2 * self._limit:
            return f"{len(self._all)} different recipients in a row were refused, the last with code {code or 'none'}"
        self._failed.append(message_id)
        del self._failed[: -2 * self._limit]
        return ""

    def take_failed(self) -> list[str]:
        """Return the messages of the row that were ended before it was found, once."""
        failed, self._failed = self._failed, []
        return failed

    def accepted(self) -> None:
        """Note that a message was taken: the provider does not refuse everything."""
        if self._all:
            self._alike.clear()
            self._all.clear()
            self._failed.clear()
