"""The faults of a simulated provider, and which recipients get which. Pure: no clock and no randomness."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

SUFFIX_MAX_DIGITS = 6
LONGEST_S = 86_400


class ResponseMode(enum.Enum):
    """How the reply is sent, if it is sent."""

    WHOLE = "whole"  # at once and complete
    TRICKLE = "trickle"  # byte by byte over `trickle_s`
    GARBLE = "garble"  # at once, with a body that is not JSON
    HANG = "hang"  # never; the connection closes after `hang_s`
    RESET = "reset"  # never; the connection is reset


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to handle a send: whether the message is taken, and what the caller sees.

    `status` is the HTTP status, 0 for no answer. `code` is the error code in the body, empty where the body says
    accepted.
    """

    taken: bool
    status: int
    mode: ResponseMode = ResponseMode.WHOLE
    code: str = ""


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "ok": Fault(taken=True, status=200),
        # the message is refused, and the answer says so
        "throttle": Fault(taken=False, status=429, code="throttled"),  # with Retry-After
        "bad_request": Fault(taken=False, status=400, code="invalid_recipient"),
        "unauthorized": Fault(taken=False, status=401, code="unauthorized"),
        "payment": Fault(taken=False, status=402, code="no_balance"),
        "server_error": Fault(taken=False, status=500, code="server_error"),
        "unavailable": Fault(taken=False, status=503, code="unavailable"),
        # no answer
        "hang": Fault(taken=False, status=0, mode=ResponseMode.HANG),
        "reset": Fault(taken=False, status=0, mode=ResponseMode.RESET),
        "take_and_hang": Fault(taken=True, status=0, mode=ResponseMode.HANG),
        "take_and_reset": Fault(taken=True, status=0, mode=ResponseMode.RESET),
        # the answer is incomplete or wrong
        "take_and_500": Fault(taken=True, status=500, code="server_error"),
        "trickle": Fault(taken=True, status=200, mode=ResponseMode.TRICKLE),
        "malformed": Fault(taken=True, status=200, mode=ResponseMode.GARBLE),
        "lie": Fault(taken=False, status=200),
    }
)


class BehaviourError(ValueError):
    """A behaviour is not valid; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one provider handles the sends that it receives; checked on creation, raises `BehaviourError`.

    Every answer is delayed by `latency_s` plus a random part of `latency_jitter_s`, uniformly distributed. `rates` maps
    fault names to probabilities (the rest is ok), `by_suffix` maps the recipient's last 1 to 6 digits to a fault name,
    and `force` is one fault for all. `limit_per_s` is enforced before any fault: a send that would exceed it in any
    1.0 s is answered 429. With `retry_after_s` None the header is left out. `seed` makes the random choices repeatable.
    """

    latency_s: float = 0.0
    latency_jitter_s: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    by_suffix: Mapping[str, str] = field(default_factory=dict)
    force: str | None = None
    limit_per_s: int | None = None
    retry_after_s: float | None = 1.0
    hang_s: float = 30.0
    trickle_s: float = 5.0
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = [
            *_seconds_problems(self),
            *_rates_problems(self.rates),
            *_suffix_problems(self.by_suffix),
            *_whole_number_problems(self),
        ]
        if self.force is not None and not _is_fault(self.force):
            problems.append(f"force: {self.force!r} is not a fault")
        if problems:
            raise BehaviourError(problems)
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        object.__setattr__(self, "by_suffix", MappingProxyType(dict(self.by_suffix)))

    @classmethod
    def from_json(cls, document: object) -> "Behaviour":
        """Read what `to_json` returned; missing keys get defaults. Raises BehaviourError, also for unknown keys."""
        if not isinstance(document, dict):
            raise BehaviourError(["a behaviour must be a JSON object"])
        known = {each.name for each in fields(cls)}
        unknown = [f"{key}: unknown key" for key in document if key not in known]
        try:
            behaviour = cls(**{key: value for key, value in document.items() if key in known})
        except BehaviourError as error:
            raise BehaviourError(unknown + error.problems) from error
        if unknown:
            raise BehaviourError(unknown)
        return behaviour

    def to_json(self) -> dict[str, Any]:
        """Return the behaviour as a JSON object with every key."""
        shallow = {each.name: getattr(self, each.name) for each in fields(self)}
        return shallow | {"rates": dict(self.rates), "by_suffix": dict(self.by_suffix)}


def fault_for(behaviour: Behaviour, recipient: str, draw: float) -> str:
    """Return the fault for one send: the forced one, else by the longest suffix, else by `draw` in [0, 1) and rates."""
    if behaviour.force is not None:
        return behaviour.force
    if behaviour.by_suffix:
        for digits in range(SUFFIX_MAX_DIGITS, 0, -1):
            fault = behaviour.by_suffix.get(recipient[-digits:])
            if fault is not None:
                return fault
    for fault, rate in behaviour.rates.items():
        draw -= rate
        if draw < 0:
            return fault
    return "ok"


def _is_fault(name: object) -> bool:
    return isinstance(name, str) and name in FAULTS


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds_problems(behaviour: Behaviour) -> list[str]:
    seconds = {
        "latency_s": behaviour.latency_s,
        "latency_jitter_s": behaviour.latency_jitter_s,
        "hang_s": behaviour.hang_s,
        "trickle_s": behaviour.trickle_s,
    }
    if behaviour.retry_after_s is not None:
        seconds["retry_after_s"] = behaviour.retry_after_s
    return [
        f"{name}: {value!r} is not a number of seconds from 0 to {LONGEST_S}"
        for name, value in seconds.items()
        if not _is_number(value) or not 0 <= value <= LONGEST_S
    ]


def _rates_problems(rates: object) -> list[str]:
    if not isinstance(rates, Mapping):
        return ["rates: not a mapping of fault name to probability"]
    problems = [f"rates: {name!r} is not a fault" for name in rates if not _is_fault(name)]
    wrong = [name for name, rate in rates.items() if not _is_number(rate) or not 0 <= rate <= 1]
    problems += [f"rates: {name}: {rates[name]!r} is not a probability from 0 to 1" for name in wrong]
    if not wrong and sum(rates.values()) > 1 + 1e-9:  # 0.7 + 0.2 + 0.1 is not quite 1
        problems.append("rates: the probabilities add up to more than 1")
    return problems


def _suffix_problems(by_suffix: object) -> list[str]:
    if not isinstance(by_suffix, Mapping):
        return ["by_suffix: not a mapping of last digits to fault name"]
    problems = [
        f"by_suffix: {suffix!r} is not 1 to {SUFFIX_MAX_DIGITS} digits"
        for suffix in by_suffix
        if not (isinstance(suffix, str) and suffix.isascii() and suffix.isdigit() and len(suffix) <= SUFFIX_MAX_DIGITS)
    ]
    problems += [f"by_suffix: {name!r} is not a fault" for name in by_suffix.values() if not _is_fault(name)]
    return problems


def _whole_number_problems(behaviour: Behaviour) -> list[str]:
    problems = []
    limit, seed = behaviour.limit_per_s, behaviour.seed
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        problems.append(f"limit_per_s: {limit!r} is neither null nor a whole number of at least 1")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        problems.append(f"seed: {seed!r} is neither null nor a whole number")
    return problems
