"""All that is left to chance in a schedule, from one seed."""

import random
from typing import Final

QUICK_S: Final = 0.002
SLOW_S: Final = 0.3


class Chance(random.Random):
    def delay_s(self) -> float:
        """What passes before something outside of a process has happened: next to nothing mostly, sometimes a lot."""
        drawn = self.random()
        return QUICK_S * drawn if drawn < 0.95 else SLOW_S * (drawn - 0.95) / 0.05

    def happens(self, probability: float) -> bool:
        return self.random() < probability
