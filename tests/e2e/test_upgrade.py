"""Upgrade from the previous version with messages in flight: for a while both versions run side by side.

The previous version is the commit before this one, or the git revision that the variable UPGRADE_FROM names.
"""

import asyncio
import os
import pathlib
import signal
import subprocess
import tarfile
from collections.abc import Mapping

import pytest
from rig import eventually, running

_MARK = """
import os, pathlib
(pathlib.Path(__file__).parents[1] / f"ran-{os.getpid()}").touch()
"""
"""Records which processes really ran the previous tree."""

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The previous version's tree; a revision that was asked for by name has to be here."""
    folder = tmp_path_factory.mktemp("previous")
    archive = folder / "tree.tar"
    named = os.environ.get("UPGRADE_FROM")
    words = ["git", "archive", "--output", str(archive), named or "HEAD~1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not named, f"UPGRADE_FROM={named}: {done.stderr.strip()}"
    if done.returncode:
        pytest.skip(f"the previous commit is not here: {done.stderr.strip()}")
    with tarfile.open(archive) as tree:
        tree.extractall(folder, filter="data")
    with (folder / "messaging/__init__.py").open("a") as package:
        package.write(_MARK)
    return folder


class Versions:
    """Which processes run the previous tree: all, until they are upgraded."""

    def __init__(self, previous: pathlib.Path) -> None:
        self._old = {"PYTHONPATH": f"{previous}:{previous / 'gen'}"}
        self.moved: set[str] = set()

    def settings(self, name: str, _environment: Mapping[str, str]) -> Mapping[str, str]:
        return {} if name in self.moved or name == "simulator" else self._old


async def test_upgrade_loses_and_duplicates_nothing_and_stays_within_the_limits(
    open_folder: pathlib.Path, previous: pathlib.Path
) -> None:
    versions = Versions(previous)
    folder = open_folder / "upgrade"
    async with running(
        folder, own_settings=versions.settings, providers=("p1", "p2", "p3"), gateways=2, coordinators=2
    ) as rig:
        scheduled = rig.load(40)
        for message in scheduled:
            message.schedule_time.GetCurrentTime()
            message.schedule_time.seconds += 12
        ours = [one for one in rig.system.processes if one != "simulator"]
        messages = rig.load(1200) + scheduled
        sending = asyncio.create_task(rig.send_until_accepted(messages))

        async def all_run_the_previous_tree() -> bool:
            return len(list(previous.glob("ran-*"))) == len(ours)

        await asyncio.sleep(2)
        await eventually(all_run_the_previous_tree)
        for name in ours:
            rig.system.signal(name, signal.SIGTERM)
            child = rig.system.processes[name]
            assert await asyncio.to_thread(child.wait, 20), f"{name} of the previous version did not end"
            versions.moved.add(name)
            rig.system.restart(name)
            await asyncio.sleep(0.3)
        ids = await sending
        await rig.all_settle(set(ids), 60)
        assert not rig.system.dead()
        assert len(list(previous.glob("ran-*"))) == len(ours), "an upgraded process runs this tree"
