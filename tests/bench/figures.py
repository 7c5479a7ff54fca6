"""Statistics of few samples: medians, spread, percentiles, ratios of interleaved rounds. Pure."""
import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some samples, the least and the greatest."""
    median: float
    low: float
    high: float

    def scaled(self, factor):
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(values):
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def percentile(ordered, share):
    """Of an ordered sequence, by the nearest rank: the least value with `share` (0 to 1) of all at or below it."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def paired(ours, theirs, combine):
    """Round by round, so that a slow minute of the machine is in both halves of each value."""
    pairs = list(zip(ours, theirs))
    if not pairs:
        raise ValueError("no round has both")
    return spread(combine(a, b) for a, b in pairs)


def ratio(ours, theirs):
    return paired(ours, theirs, lambda a, b: a / b)


def difference(ours, theirs):
    return paired(ours, theirs, lambda a, b: a - b)
