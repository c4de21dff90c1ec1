"""`python -m tests.load.chaos.page`: writes docs/reliability.md from the reports under docs/reliability/."""

import json
import pathlib

from tests.load.chaos.checker import Finding
from tests.load.chaos.report import Report

_DOCS = pathlib.Path("docs")

_HEAD = """# Reliability

Made by `python -m tests.load.chaos.page` from the reports under `docs/reliability`; do not edit.

A chaos run starts the whole system as separate processes, two of each: gateways, coordinators, projectors, and two
dispatchers for each of five simulated providers; nats-server (one, or a cluster of three with three replicas of every
stream) and PostgreSQL. Unary and batch callers with known identities send through both gateways and do what careful
callers do: they ask again, with the same `request_id`, until they have an answer, and some ask again after it. A plan
that follows from the seed kills (`kill`), stops and continues (`pause`) and restarts (`roll`) the processes, kills,
freezes and restarts the servers (`crash`, `freeze`, `reboot`), cuts, holds and slows each process's connections (`cut`,
`stall`, `delay`), lets the stream take nothing more (`fill`), and lets providers throttle, fail, hang, reset, and take
messages without answering (`provider`).

Afterwards a checker compares three records that know nothing of each other: what the callers were told, what the
providers' sockets received (by the kernel's time stamps), and what PostgreSQL and the stream say.

```sh outside
make chaos MESSAGES=20000 SEED=1          # RATE, NATS=3, EVERY, OUT: see the Makefile
make chaos-short                          # about a minute and a half; CI runs it
```

The same seed gives the same plan and the same messages. It does not give the same interleaving: the counts of what is
only told, and the times, differ from run to run; the promises do not.

**How to read it.** A message that was received twice is harmless only when an attempt before had an unclear end (the
process died, or the provider took it and did not answer) and the message's priority says that it is sent again then
(one-time passwords), or the provider, asked about it, said that it did not have it; each such message says so in its
story. UNKNOWN is what becomes of a message whose attempt ended unclear and that must not be sent again. EXPIRED ones
met their deadline of a minute while their provider was down or the fleet stood still. One that was never tried,
although messages behind it in its lane were, before half of its time was over, is told in a line of its own: a lost
queue entry looks like that, but so does one in the hands of a pod that was killed or frozen, when the lane then stood
still. The time until the rate was full again counts from the end of the fault, and faults overlap: what the next fault
did counts too, and `not measured` stands where the load ended before.

The checker is tested in two ways: by records made by hand, one line after the other (`tests/load/test_checker.py`), and
by bugs that are planted in the running processes (`tests/load/test_plants.py`): an acceptance that is answered without
the stream's acknowledgement, a forgotten request, an attempt without its marker, a paused pod that goes on with a stale
lease, a redelivery that is taken for new, a message that is dropped, one that goes backward, and rows that the
projector leaves out. Each is found by its own line.

"""

_FOUND = """
## What it has found

Fixed, each with a test:

- A message with a schedule that was read while the stream was away ended the coordinator, both of them at once: the
  fleet stood still until somebody started one. The scheduler now lets such a message come again.
- nats-py waits by `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that comes together with the answer:
  a busy process did not drain on SIGTERM and had to be killed. Of tight loops, 7 in 10 did not end.
- A delivery that a killed nats-server had forgotten was taken for a repeat and came again only after the
  acknowledgement's wait; now at once.
- nats-py's `fetch` dropped the messages that it held when a stopping server answered with an error.
- After a leader of the cluster was killed, the work queue was not fed for up to 48 s, because its servers ask their
  sources again slowly; another leader is asked for now, and it takes 4 to 9 s (ADR 6).
- A process that started while a stream had no leader ended.
- The history has holes after a crash of a PostgreSQL that runs with `synchronous_commit=off`, as the runs did at first:
  it had confirmed what it then forgot, and the projector had acknowledged it. The system is right to trust it; the runs
  now use the durable settings of `make up`, and the README says that yours must be. The largest run so far found it, of
  200,000 messages through 167 faults (seed 2026, rate 75): the history lacked 137 events, which three lines of the
  checker saw. Every other line was kept, the highest seconds were 75 and 300, 58 messages were received twice after an
  unclear attempt and said so, 743 became UNKNOWN and 56 EXPIRED.
"""


def main() -> None:
    """Write the page."""
    parts = [_HEAD]
    for path in sorted((_DOCS / "reliability").glob("*.json")):
        document = json.loads(path.read_text())
        document.pop("broken")
        findings = [Finding(**one) for one in document.pop("findings")]
        parts.append(
            f"## {path.stem.replace('-', ' ').capitalize()}\n\n{Report(findings=findings, **document).to_markdown()}\n"
        )
    (_DOCS / "reliability.md").write_text("".join([*parts, _FOUND]))


if __name__ == "__main__":
    main()
