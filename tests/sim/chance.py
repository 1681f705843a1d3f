"""All random choices of a schedule, from one seed."""

import random
from typing import Final

QUICK_S: Final = 0.002
SLOW_S: Final = 0.3


class Chance(random.Random):
    def delay_s(self) -> float:
        """Seconds until an event outside of a process happens: mostly next to nothing, sometimes a lot."""
        drawn = self.random()
        return QUICK_S * drawn if drawn < 0.95 else SLOW_S * (drawn - 0.95) / 0.05

    def happens(self, probability: float) -> bool:
        return self.random() < probability
