"""How half-size sets, whole sets, easy and random real images differ from each other: test accuracy by stored labels.

python benchmarks/every_network_differences.py

Nothing is trained. Numbers are of the result files SOURCES, by the protocol `native`. A row is one network and two
kinds of data: `less` is taken from `of`. n counts them: sets, each the mean of its trainings, or draws of real images.
Means and differences are fractions, and intervals are Welch's, of 95%.
"""

import json
from importlib.metadata import version
from pathlib import Path

from distilling import command
from every_network import ARCHS, Row, apart, sets_and_draws

from ddhub.base import files

RESULTS = Path(__file__).parent / "results"
SOURCES = ("every_network", "every_network_half", "every_network_easy", "every_network_half_easy")
PAIRS = (
    ("half", "whole"),
    ("half", "whole_random"),
    ("half", "half_easy"),
    ("half_easy", "whole_random"),
    ("half_random", "whole_random"),
    ("whole", "whole_easy"),
)


def main() -> None:
    """Write the differences beside the files that they are of."""
    versions = {name: version(name) for name in ("scipy", "numpy")}
    about = {"command": command(), "versions": versions, "sources": [f"{name}.json" for name in SOURCES]}
    files.write_json(RESULTS / "every_network_differences.json", {**about, "rows": rows()})


def rows() -> list[Row]:
    """One row for every pair and every network that has both."""
    known = accuracies()
    found = []
    for of, less in PAIRS:
        for arch in [arch for arch in ARCHS if arch in known[of] and arch in known[less]]:
            one, other = known[of][arch], known[less][arch]
            apart_by = apart(one, other)
            means = [apart_by.pop("distilled"), apart_by.pop("random")]
            found.append(
                {"arch": arch, "of": of, "less": less, "n": [len(one), len(other)], "means": means, **apart_by}
            )
    return found


def accuracies() -> dict[str, dict[str, list[float]]]:
    """By kind of data and network: the mean of each set, or the accuracy of each draw."""
    whole, half, easy, half_easy = (json.loads((RESULTS / f"{name}.json").read_text()) for name in SOURCES)
    found = {
        "whole_easy": {row["arch"]: row["each"] for row in easy["rows"]},
        "half_easy": {arch: [row["top1"] for row in half_easy[arch]["rows"]] for arch in ARCHS if arch in half_easy},
    }
    for name, document in (("whole", whole), ("half", half)):
        native = [row for row in document["rows"] if row["set"] != "all" and row["protocol"] == "native"]
        both = {arch: sets_and_draws([row for row in native if row["arch"] == arch]) for arch in ARCHS}
        found[name] = {arch: sets for arch, (sets, _) in both.items()}
        found[f"{name}_random"] = {arch: draws for arch, (_, draws) in both.items()}
    return found


if __name__ == "__main__":
    main()
