"""The results of all rounds, in words."""

from collections import Counter

from tests.chaos.rounds import Round
from tests.chaos.system import SERVICE_KILLED, System


class Tally:
    def __init__(self) -> None:
        self.rounds = self.orders = self.dropped = 0
        self.wrong: Counter[str] = Counter()
        self._did: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()
        self._killed: Counter[str] = Counter()
        self._had_ended: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._customers: Counter[str] = Counter()

    def add_round(self, made: Round) -> None:
        self.rounds += 1
        self.orders += made.orders
        self._ended += made.ended
        self._customers += made.customers
        self.wrong.update(lost=len(made.lost), doubled=len(made.doubled), stuck=len(made.stuck), found=len(made.found))

    def add_system(self, system: System) -> None:
        """Add the counts of this system. Call it after its last round."""
        self.dropped += system.dropped
        self._had_ended += system.had_ended
        for (what, who, how), many in system.did.items():
            self._did[what] += many
            if what == SERVICE_KILLED:
                self._killed[who] += many
                self._kills[how] += many

    def times(self, what: str) -> int:
        return self._did[what]

    def ended_by_themselves(self) -> int:
        return self._had_ended.total()

    def lines(self) -> list[str]:
        faults = self._did.total()
        ended = self._ended.copy()
        confirmed = ended.pop("confirmed", 0)
        return [
            f"{self.rounds:,} rounds, {faults:,} faults: {_listed(self._did)}",
            f"services killed: {_listed(self._killed)}; where: {_listed(self._kills)}",
            f"ended by themselves and started again: {_listed(self._had_ended) or 'none'}",
            f"writes that were not synced and that power cuts dropped: {self.dropped:,}",
            f"{self.orders:,} orders: {confirmed:,} confirmed, {ended.total():,} canceled: {_listed(ended)}",
            f"customers: {_listed(self._customers)}",
            "lost {lost}, doubled {doubled}, stuck {stuck}, other findings {found}".format(**self.wrong),
            f"rule of three, 95 %: less than one in {max(1, self.orders // 3):,} such orders goes wrong, "
            f"and less than one in {max(1, faults // 3):,} such faults does harm",
        ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {many:,}" for what, many in counts.most_common())
