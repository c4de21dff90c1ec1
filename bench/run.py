"""Runs every benchmark in its own process and writes results.json: `python -m bench.run`."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from bench import machine, report

BENCHES = (
    *("send_sms", "batch_send", "to_socket", "burst", "first_message", "whole_way", "pacing", "waiting", "stored"),
    *("shares", "idle_lanes", "fleet_scale"),
)


def main() -> None:
    """Run them one after the other. If any fails, their names are printed at the end, and nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m bench.run")
    parser.add_argument("--form", choices=("short", "normal", "full"), default="normal")
    parser.add_argument("--folder", type=pathlib.Path, default=report.FOLDER, help="where results.json goes")
    parser.add_argument("--only", choices=BENCHES, action="append", help="only this one; the others keep their figures")
    options = parser.parse_args()
    facts = machine.facts()
    path = options.folder / "results.json"
    kept = json.loads(path.read_text())["results"] if options.only and path.exists() else []
    found = {one["bench"]: one for one in kept}
    failed = []
    with tempfile.TemporaryDirectory(prefix="sms-gateway-bench-") as folder:
        for name in options.only or BENCHES:
            target = pathlib.Path(folder) / f"{name}.json"
            began = time.monotonic()
            command = [sys.executable, "-m", f"bench.{name}", "--json", target, "--form", options.form]
            status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode  # noqa: S603 - ours
            print(f"{name}: {'failed' if status else 'done'} after {time.monotonic() - began:.0f} s", flush=True)
            if status:
                failed.append(name)
            else:
                found[name] = json.loads(target.read_text())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": facts, "form": options.form, "results": [found[name] for name in BENCHES if name in found]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    main()
