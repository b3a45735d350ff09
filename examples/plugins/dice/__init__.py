import random

from contracts.tool_contract import ToolContract


class Dice(ToolContract):
    """Rolls dice."""

    async def call(self, sides: int = 6, count: int = 1) -> list:
        return [random.randint(1, sides) for _ in range(count)]
