"""How a stranger behaves, and how its entry in the providers file reads. Values only."""

import attrs

MISSING_AFTER_S = 12
"""The providers file says: a look-up's no is true this long after the attempt ended."""


@attrs.frozen
class Mood:
    """What a stranger does with a request.

    It takes the message `hold_s` after it read the request, whatever became of the client, and answers `answer_s` after
    that. Its look-ups deny the message until `hide_s` after that. While it is `unread`, bytes lie in its sockets.
    """

    hold_s: float = 0.0
    answer_s: float = 0.03
    hide_s: float = 0.0
    unread: bool = False


MOODS = {
    "well": Mood(),
    "answers-late": Mood(answer_s=4.5),
    "works-late": Mood(hold_s=5.0),
    "hides": Mood(answer_s=4.5, hide_s=3.0),
    "unread": Mood(unread=True),
    "beyond": Mood(hold_s=MISSING_AFTER_S + 8.0),
}
KEPT = ("answers-late", "works-late", "hides", "unread")
"""The moods that keep what `missing_after_s` says; `beyond` breaks it."""


def table(name: str, url: str, rate_per_s: int, timeout_s: int) -> str:
    """Return the entry of the providers file."""
    return f"""
[[provider]]
name = "{name}"
adapter = "http-json"
url = "{url}/out"
rate_per_s = {rate_per_s}
timeout_s = {timeout_s}
sender = "Chaos"

[provider.settings]
fields = {{dest = "{{recipient}}", words = "{{body}}", tag = "{{message_id}}"}}
id_path = "ticket"
success_path = "verdict"
success_values = ["on its way"]

[provider.settings.look_up]
url = "/tags/{{message_id}}"
found = [200]
id_path = "ticket"
missing = [404]
authoritative = true
missing_after_s = {MISSING_AFTER_S}
"""
