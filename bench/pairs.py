"""Contenders beside a reference: both asked in turn, several times, so that each pair is compared.

Each contender is started once, with the reference running beside it, idle unless it is asked.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.contenders.base import Can, Contender, Running
from bench.plan import Plan
from bench.results import Table

#: Figure -> its value.
Sample = dict[str, float]


@dataclass(kw_only=True)
class Pairs:
    """What one measure gave: by contender, (reference's sample, its own) of each round."""

    reference: str
    of: dict[str, list[tuple[Sample, Sample]]] = field(default_factory=dict)
    #: Contender -> why it has no samples.
    without: dict[str, str] = field(default_factory=dict)

    def figure(self, contender: str, name: str) -> list[tuple[float, float]]:
        """(reference's, own) of each round; where both have it."""
        return [
            (reference[name], own[name])
            for reference, own in self.of.get(contender, [])
            if name in reference and name in own
        ]

    def own(self, contender: str, name: str) -> list[float]:
        """A contender's own values; the reference's are from all pairs."""
        if contender == self.reference:
            return [one[name] for pairs in self.of.values() for one, _ in pairs if name in one]
        return [own[name] for _, own in self.of.get(contender, []) if name in own]

    def names(self) -> list[str]:
        """The reference first, then the others, those without samples too."""
        return [self.reference, *self.of, *(n for n in self.without if n not in self.of)]


class Measure(ABC):
    """Something that is asked of a running contender."""

    name: str
    needs: Can | None = None
    rounds: tuple[int, int]  # of a full run, of a quick one

    @abstractmethod
    def sample(self, running: Running, plan: Plan) -> Sample:
        """One round."""

    @abstractmethod
    def tables(self, pairs: Pairs) -> list[Table]:
        """What was found."""


def run(
    plan: Plan, reference: Contender, others: Sequence[Contender], measures: Sequence[Measure]
) -> dict[str, Pairs]:
    """Every measure of every contender: measure -> pairs. What fails is in the findings."""
    found = {measure.name: Pairs(reference=reference.name) for measure in measures}
    with plan.folder() as folder, reference.start(folder) as beside:
        for contender in others:
            plan.say(f"{contender.name}:")
            try:
                with plan.folder() as own, contender.start(own) as running:
                    for measure in measures:
                        _measure(plan, measure, contender, beside, running, found[measure.name])
            except Exception as error:
                plan.failed(contender.name, error)
                for pairs in found.values():
                    if contender.name not in pairs.of:
                        pairs.without[contender.name] = "it did not start: see the end of this page"
    return found


def _measure(
    plan: Plan,
    measure: Measure,
    contender: Contender,
    beside: Running,
    running: Running,
    pairs: Pairs,
) -> None:
    if measure.needs in contender.cannot:
        pairs.without[contender.name] = contender.cannot[measure.needs]
        return
    samples: list[tuple[Sample, Sample]] = []
    try:
        for _ in range(plan.times(*measure.rounds)):
            pair = (measure.sample(beside, plan), measure.sample(running, plan))
            samples.append(pair)
    except Exception as error:
        plan.failed(f"{measure.name}, {contender.name}", error)
        pairs.without[contender.name] = "it failed: see the end of this page"
    if samples:
        pairs.of[contender.name] = samples
        plan.say(f"  {measure.name}: {_short(samples[-1][1])}")


def _short(sample: Sample) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in sample.items())
