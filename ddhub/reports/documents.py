"""The documents of `evaluate --json` and `report --json`, typed. Accuracies are fractions, intervals 95%."""

import html
from typing import Any

from pydantic import Field

from ddhub.base.document import Document
from ddhub.evaluation.results import Row

Interval = tuple[float, float]


class Score(Document):
    """The mean accuracy of an architecture on one kind of data, under a protocol, on a test set."""

    arch: str
    protocol: str  # with the user's changes: `native epochs=50`
    data: str  # distilled, a baseline, or full
    test_set: str
    mean: float
    std: float | None  # sample standard deviation; None where n is 1
    n: int  # trainings
    ci95: Interval | None


class Difference(Document):
    """The mean difference `a` - `b`, paired by seed."""

    arch: str
    protocol: str
    test_set: str
    a: str
    b: str
    mean: float
    std: float | None
    n: int  # pairs
    ci95: Interval | None
    differs: bool | None  # whether the interval leaves out zero; None where n is 1
    disjoint: bool | None  # whether the intervals of both means do not touch
    same_settings: bool = True  # between sets: whether both were trained alike


class Recovery(Document):
    """The share of full data's accuracy that the set reaches."""

    arch: str
    protocol: str
    test_set: str
    data: str
    share: float
    ci95: Interval | None
    n: tuple[int, int]  # trainings on the set, and on full data


class RankFidelity(Document):
    """Kendall's tau between the rankings of architectures by the set and by full data."""

    protocol: str
    test_set: str
    data: str
    archs: list[str]
    tau: float
    ci95: tuple[float | None, float | None]
    n: int


class DDRanking(Document):
    """DD-Ranking's label-robust and augmentation-robust scores; None where a component was not run."""

    arch: str
    protocol: str
    test_set: str
    lrs: float | None
    ars: float | None


class Evaluation(Document):
    """The rows of a set and what they say; the document of `evaluate --json` and of report.json."""

    format: int = 1
    set: str  # what people call it
    rows: list[Row]
    summary: list[Score]
    comparisons: list[Difference] = Field(default_factory=list)
    recovery: list[Recovery] = Field(default_factory=list)
    rank_fidelity: list[RankFidelity] = Field(default_factory=list)
    dd_ranking: list[DDRanking] = Field(default_factory=list)
    probe: dict[str, Any] | None = None

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{each.arch} {each.protocol} {each.data} {100 * each.mean:.1f}% (n={each.n})" for each in self.summary[:4]
        )
        more = f", and {len(self.summary) - 4} more" if len(self.summary) > 4 else ""
        return f"<Evaluation of {self.set}: {scores or 'no rows'}{more}>"

    def _repr_html_(self) -> str:
        from ddhub.reports import summary, tables

        document = self.to_dict()
        said = "".join(f"<li>{html.escape(tables.oneline(text))}</li>" for text in summary.sentences(document))
        return f"{tables.html_table(tables.of_report(document, brief=True))}<ul>{said}</ul>"


class Push(Document):
    """What a push did."""

    repo_id: str
    commit: str
    url: str
    changed: bool  # False: the Hub held exactly this already

    def __repr__(self) -> str:
        return f"<Push to {self.repo_id}: {self.url}{'' if self.changed else ', which held this already'}>"

    def _repr_html_(self) -> str:
        url = html.escape(self.url, quote=True)
        return f'<a href="{url}">{html.escape(self.repo_id)}</a>{"" if self.changed else " (held this already)"}'


class Report(Document):
    """The results of sets side by side: the document of `report --json`."""

    format: int = 1
    sets: list[Evaluation]
    differences: list[Difference]
    warnings: list[str]
    pushed: Push | None = None

    def __repr__(self) -> str:
        return f"<Report on {', '.join(each.set for each in self.sets)}>"

    def _repr_html_(self) -> str:
        from ddhub.reports import compare, tables

        if len(self.sets) == 1:
            return self.sets[0]._repr_html_()
        document = self.to_dict()
        said = "".join(f"<li>{html.escape(tables.oneline(text))}</li>" for text in compare.sentences(document))
        return f"{''.join(map(tables.html_table, compare.tables(document)))}<ul>{said}</ul>"
