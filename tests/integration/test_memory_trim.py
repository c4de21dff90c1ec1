"""The C library gives memory back when it is asked."""

import subprocess
import sys

from messaging.runtime.memory import resident_bytes

MIB = 1024 * 1024


def test_what_the_library_keeps_goes_back_to_the_system() -> None:
    """Many blocks that are freed but for the last ones stay with the library, until it is asked."""
    script = (
        "from messaging.runtime.memory import resident_bytes, trim\n"
        "blocks = [bytearray(60_000) for _ in range(2000)]\n"
        "last = bytearray(60_000)\n"
        "full = resident_bytes(); del blocks; kept = resident_bytes(); trim(); after = resident_bytes()\n"
        "print(full, kept, after)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    full, _, after = map(int, out.split())
    assert full - after > 80 * MIB
    assert resident_bytes() > MIB
