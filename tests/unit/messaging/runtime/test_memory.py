import asyncio
import contextlib

from messaging.runtime.memory import give_back

MIB = 1024 * 1024


async def test_memory_is_given_back_once_for_each_growth() -> None:
    held, trims = [100 * MIB], list[int]()
    sizes = iter([100, 110, 150, 150, 130, 100, 100, 118, 118, 118])

    def resident() -> int:
        with contextlib.suppress(StopIteration):
            held[0] = next(sizes) * MIB
        return held[0]

    def trimming() -> None:
        trims.append(held[0] // MIB)

    working = asyncio.create_task(give_back(resident, trimming, every_s=0))
    for _ in range(200):
        await asyncio.sleep(0)
        await asyncio.to_thread(int)
    working.cancel()
    assert trims == [150, 118]
