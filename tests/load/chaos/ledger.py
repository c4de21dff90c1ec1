"""The first record: what callers requested and which answers they got. Values only."""

from collections.abc import Mapping

import attrs


@attrs.frozen
class Acceptance:
    """A request that the gateway acknowledged; times are Unix seconds."""

    request_id: str
    message_id: str
    asked_at: float
    answered_at: float
    deadline: float


@attrs.define
class Ledger:
    """What all callers of a run saw.

    `accepted` is by message id; `ids` by request id. `mismatches` are requests that were answered with two message
    ids, `refused` valid requests that were refused for good.
    """

    accepted: dict[str, Acceptance] = attrs.Factory(dict)
    ids: dict[str, str] = attrs.Factory(dict)
    mismatches: list[str] = attrs.Factory(list)
    refused: dict[str, str] = attrs.Factory(dict)
    errors: dict[str, int] = attrs.Factory(dict)
    repeats: int = 0

    def accept(self, one: Acceptance) -> None:
        """Note an acknowledgement; a repeated request must get the same message id."""
        known = self.ids.setdefault(one.request_id, one.message_id)
        if known != one.message_id:
            self.mismatches.append(one.request_id)
        self.accepted.setdefault(one.message_id, one)

    def failed(self, code: str) -> None:
        """Count an answer after which the caller has to retry."""
        self.errors[code] = self.errors.get(code, 0) + 1

    @property
    def failures(self) -> Mapping[str, int]:
        """How often callers had to retry, by gRPC code."""
        return dict(sorted(self.errors.items()))
