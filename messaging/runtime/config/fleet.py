"""Settings of the dispatcher fleet."""

import attrs

from messaging.runtime.config.setting import delays, one_of, seconds, setting, whole


@attrs.frozen
class FleetSettings:
    """The dispatcher fleet: rates, leases, retries, breakers."""

    rate_per_s: int = setting(
        "SMSGW_FLEET_RATE_PER_S", 200, whole(1, 100_000), "sends a second of all providers together"
    )
    lease_s: float = setting("SMSGW_LEASE_S", 2.5, seconds(0.5, 60), "how long a share is valid without renewal")
    renew_s: float = setting("SMSGW_RENEW_S", 0.5, seconds(0.05, 10), "how often a pod renews its lease")
    window_s: float = setting(
        "SMSGW_WINDOW_S", 1.002, seconds(1.0, 1.1), "length of the enforced window: one second and a margin for jitter"
    )
    ack_wait_s: float = setting(
        "SMSGW_ACK_WAIT_S", 20.0, seconds(2, 3600), "time without an ack after which a message is redelivered"
    )
    retry_delays_s: tuple[float, ...] = setting(
        "SMSGW_RETRY_DELAYS_S",
        (30.0, 300.0, 1800.0, 7200.0, 21600.0),
        delays,
        "waits before each round of retries",
    )
    ambiguous_otp: str = setting(
        "SMSGW_AMBIGUOUS_OTP", "resend", one_of("resend", "hold"), "what to do after an unclear outcome of an OTP"
    )
    ambiguous_other: str = setting(
        "SMSGW_AMBIGUOUS_OTHER", "hold", one_of("resend", "hold"), "the same for all other messages"
    )
    ambiguous_resends: int = setting(
        "SMSGW_AMBIGUOUS_RESENDS",
        1,
        whole(0, 10),
        "how many times one message is resent after unclear outcomes; then it is held",
    )
    lookup_after_s: float = setting(
        "SMSGW_LOOKUP_AFTER_S", 5.0, seconds(0.1, 3600), "wait before asking a provider about an unclear outcome"
    )
    breaker_failures: int = setting(
        "SMSGW_BREAKER_FAILURES", 5, whole(1, 1000), "consecutive failures that open a breaker"
    )
    breaker_calls: int = setting(
        "SMSGW_BREAKER_CALLS", 20, whole(1, 10_000), "fewest calls in the window for which the failure ratio counts"
    )
    breaker_refusals: int = setting(
        "SMSGW_BREAKER_REFUSALS",
        10,
        whole(2, 100_000),
        "different recipients refused alike in a row that open a breaker",
    )
    breaker_window_s: float = setting(
        "SMSGW_BREAKER_WINDOW_S",
        60.0,
        seconds(1, 3600),
        "window of the failure ratio; a breaker opens when it is over one half",
    )
    breaker_cooldown_s: float = setting("SMSGW_BREAKER_COOLDOWN_S", 30.0, seconds(0.1, 3600), "wait before a probe")
    room_s: float = setting(
        "SMSGW_ROOM_S", 30.0, seconds(1, 86400), "a provider has no room when its backlog exceeds its rate times this"
    )
