"""Reduces a failing scenario to a short one that fails in the same way."""
import copy
import time


def parts(values, count):
    size = max(1, (len(values) + count - 1) // count)
    return [range(start, min(start + size, len(values))) for start in range(0, len(values), size)]


class Shrinker:
    """`fails(scenario)` runs it and gives the kind of failure, or None. A race may need several tries."""

    def __init__(self, fails, kind, seconds, tries=2, say=lambda text: None):
        self.fails, self.kind, self.tries, self.say = fails, kind, tries, say
        self.deadline = time.monotonic() + seconds
        self.runs = 0

    def still(self, scenario):
        for _ in range(self.tries):
            if time.monotonic() > self.deadline:
                return False
            self.runs += 1
            if self.fails(scenario) == self.kind:
                return True
        return False

    def shrink(self, scenario, failed_at=None):
        best = scenario
        if failed_at is not None:
            best = self.better(best, {**best, "script": best["script"][:failed_at + 1]})
        for client in sorted({operation["c"] for operation in best["script"] if "c" in operation}):
            best = self.better(best, {**best, "script": [operation for operation in best["script"] if operation.get("c") != client]})
        before = None
        while before != size(best) and time.monotonic() < self.deadline:
            before = size(best)
            best = self.reduce(best, "script")
            best = self.reduce(best, "schema")
            best = self.reduce(best, "rows")
            best = self.columns(best)
        return best

    def better(self, best, candidate):
        if size(candidate) < size(best) and self.still(candidate):
            self.say(f"{len(candidate['script'])} operations, {len(candidate['schema'])} statements of DDL")
            return candidate
        return best

    def reduce(self, best, name):
        """Delta debugging: takes out ever smaller parts of a list."""
        count = 2
        while best[name] and time.monotonic() < self.deadline:
            for part in reversed(parts(best[name], count)):
                kept = [value for index, value in enumerate(best[name]) if index not in part]
                best = self.better(best, {**best, name: kept})
            if count >= len(best[name]):
                break
            count = min(count * 2, len(best[name]))
        return best

    def columns(self, best):
        for index, statement in enumerate(best["schema"]):
            if not isinstance(statement, dict) or "items" not in statement:
                continue
            for item in list(statement["items"]):
                candidate = copy.deepcopy(best)
                candidate["schema"][index]["items"].remove(item)
                if candidate["schema"][index]["items"]:
                    best = self.better(best, candidate)
                if item not in best["schema"][index]["items"]:
                    continue
        return best


def size(scenario):
    return (len(scenario["script"]) + len(scenario["rows"])
            + sum(len(statement["items"]) + 1 if isinstance(statement, dict) and "items" in statement else 1 for statement in scenario["schema"]))
