import asyncio
from collections.abc import Sequence

from messaging.runtime.memory import give_back

MIB = 1024 * 1024


async def trims_of(sizes: Sequence[int]) -> list[int]:
    """Return the looks, by number from 0, after which the process was trimmed; `sizes` are what they find, in MiB."""
    trims, looked = list[int](), [0]
    done = asyncio.Event()

    def resident() -> int:
        return sizes[min(looked[0], len(sizes) - 1)] * MIB

    def trimming() -> None:
        trims.append(looked[0])

    async def tick() -> None:
        while looked[0] < len(sizes):
            await asyncio.sleep(0)
            await asyncio.to_thread(int)
            looked[0] += 1
        done.set()

    async with asyncio.TaskGroup() as group:
        working = group.create_task(give_back(resident, trimming, every_s=0))
        group.create_task(tick())
        await done.wait()
        working.cancel()
    return trims


async def test_quiet_process_is_never_trimmed() -> None:
    assert await trims_of([100, 105, 110, 112] * 50) == []


async def test_what_is_freed_after_the_growth_is_given_back_too_and_trimming_ends() -> None:
    trims = await trims_of([100] * 5 + [200] * 500)
    assert len(trims) == 15
    assert max(trims) < 400
