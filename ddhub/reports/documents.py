"""The documents of `evaluate --json` and `report --json`, typed. Accuracies are fractions, intervals are 95%."""

import html

from pydantic import Field

from ddhub.base import units
from ddhub.base.document import Document
from ddhub.evaluation.probe.outcome import Outcome
from ddhub.evaluation.rows import Row

Interval = tuple[float, float]


class Moments(Document):
    """A mean with its spread."""

    mean: float = Field(description="Mean.")
    std: float | None = Field(description="Sample standard deviation. null where n is 1.")
    n: int = Field(description="Number of trainings.")
    ci95: Interval | None = Field(description="95% interval of the mean. null where n is 1.")


class Score(Document):
    """The mean accuracy of an architecture on one kind of data, under a protocol, on a test set."""

    arch: str = Field(description="Architecture.")
    protocol: str = Field(
        description="Protocol with the user's changes, as `native epochs=50`. A version that is not the present one is"
        " named, as `native version 1`."
    )
    data: str = Field(description="`distilled`, a baseline, or `full`.")
    test_set: str = Field(description="Name of the test images.")
    mean: float = Field(description="Mean test accuracy.")
    std: float | None = Field(description="Sample standard deviation. null where n is 1.")
    n: int = Field(description="Number of trainings.")
    ci95: Interval | None = Field(description="95% interval of the mean. null where n is 1.")
    corrupted: Moments | None = Field(
        default=None, description="Mean test accuracy on corrupted images, over the rows with that test."
    )
    precision: str | None = Field(
        default=None, description="Precision of the trainings, where those of an architecture differ."
    )


class Difference(Document):
    """The mean difference `a` - `b`, paired by seed."""

    arch: str = Field(description="Architecture.")
    protocol: str = Field(description="Protocol with the user's changes.")
    test_set: str = Field(description="Name of the test images.")
    a: str = Field(description="First data, or first set.")
    b: str = Field(description="Second data, or second set.")
    mean: float = Field(description="Mean of the differences.")
    std: float | None = Field(description="Sample standard deviation of the differences. null where n is 1.")
    n: int = Field(description="Number of pairs.")
    ci95: Interval | None = Field(description="95% interval of the mean. null where n is 1.")
    differs: bool | None = Field(description="Whether the interval excludes zero. null where n is 1.")
    disjoint: bool | None = Field(description="Whether the intervals of both means are disjoint.")
    same_settings: bool = Field(default=True, description="Between sets: whether both had the same training settings.")


class Recovery(Document):
    """The set's share of the accuracy of full data."""

    arch: str = Field(description="Architecture.")
    protocol: str = Field(description="Protocol with the user's changes.")
    test_set: str = Field(description="Name of the test images.")
    data: str = Field(description="`distilled`.")
    share: float = Field(description="Its mean accuracy divided by that of full data.")
    ci95: Interval | None = Field(description="95% interval of the share. null where either n is 1.")
    n: tuple[int, int] = Field(description="Trainings on the set, and on full data.")


class RankFidelity(Document):
    """Kendall's tau between the rankings of architectures by the set, or random images, and by full data."""

    protocol: str = Field(description="Protocol with the user's changes.")
    test_set: str = Field(description="Name of the test images.")
    data: str = Field(description="`distilled` or `random`.")
    archs: list[str] = Field(description="Architectures that were ranked.")
    tau: float = Field(description="Kendall's tau-b.")
    ci95: Interval | None = Field(description="95% interval by a bootstrap over the rows. null where an n is 1.")
    n: int = Field(description="Fewest trainings of an architecture.")
    near_chance: list[str] = Field(
        default_factory=list,
        exclude_if=lambda archs: not archs,  # key is newer than published reports
        description="Architectures whose accuracy on the data is near chance, as far as rows name the classes.",
    )


class DDRanking(Document):
    """DD-Ranking's label-robust and augmentation-robust scores; None where a component was not run."""

    arch: str = Field(description="Architecture.")
    protocol: str = Field(description="Protocol with the user's changes.")
    test_set: str = Field(description="Name of the test images.")
    lrs: float | None = Field(description="Label-robust score. 0.269 is no lead and no loss.")
    ars: float | None = Field(description="Augmentation-robust score. 0.269 is no lead and no loss.")
    hlr: float | None = Field(description="Accuracy of full data minus that of the set with hard labels.")
    ior: float | None = Field(description="Lead of the set over random real images.")
    lead_unaugmented: float | None = Field(description="The same lead without augmentation.")


class Evaluation(Document):
    """The rows of a set and their summary: the document of `evaluate --json` and of report.json."""

    format: int = Field(default=1, description="Version of the format.")
    set: str = Field(description="Name of the set, or `owner/name@commit`.")
    rows: list[Row] = Field(description="One entry per training.")
    summary: list[Score] = Field(description="One entry per architecture, protocol, data and test set.")
    comparisons: list[Difference] = Field(default_factory=list, description="The set against each baseline.")
    recovery: list[Recovery] = Field(default_factory=list, description="Share of full data's accuracy.")
    rank_fidelity: list[RankFidelity] = Field(
        default_factory=list,
        description="Agreement of architecture rankings by the set, and by random images, with full data.",
    )
    dd_ranking: list[DDRanking] = Field(default_factory=list, description="DD-Ranking's scores.")
    probe: Outcome | None = Field(default=None, description="Outcome of the probe.")

    def __repr__(self) -> str:
        from ddhub.reports import escaping, headlines, tables

        gains = [
            f"{each.arch} {each.protocol} {tables.difference(each)}" for each in self.comparisons if each.b == "random"
        ]
        over = f" Over random: {units.listed(gains, 4)}." if gains else ""
        return escaping.oneline(f"<Evaluation of {self.set}: {headlines.first(self)}{over}>")

    def __str__(self) -> str:
        """The sentences above the table, and a line of text for each of its lines."""
        from ddhub.reports import escaping, headlines, tables

        return "\n".join([*map(escaping.oneline, headlines.above(self)), *tables.texts(self)])

    def _repr_html_(self) -> str:
        from ddhub.reports import escaping, summary, tables

        said = "".join(f"<li>{html.escape(escaping.oneline(text))}</li>" for text in summary.sentences(self))
        return f"{tables.html_table(tables.of_report(self, brief=True))}<ul>{said}</ul>"


class Push(Document):
    """The result of a push."""

    repo_id: str = Field(description="Repo of the Hub.")
    commit: str = Field(description="Commit that holds the set.")
    url: str = Field(description="Address of the commit or pull request.")
    changed: bool = Field(description="false if the Hub had exactly this content already.")

    def __repr__(self) -> str:
        return f"<Push to {self.repo_id}: {self.url}{'' if self.changed else ', which held this already'}>"

    def _repr_html_(self) -> str:
        url = html.escape(self.url, quote=True)
        return f'<a href="{url}">{html.escape(self.repo_id)}</a>{"" if self.changed else " (held this already)"}'


class Report(Document):
    """The results of sets side by side: the document of `report --json`."""

    format: int = Field(default=1, description="Version of the format.")
    sets: list[Evaluation] = Field(description="One entry per set.")
    differences: list[Difference] = Field(description="Every pair of sets.")
    warnings: list[str] = Field(description="Reasons why numbers are not comparable.")
    pushed: Push | None = Field(default=None, description="Result of `--push`.")

    def __repr__(self) -> str:
        return f"<Report on {', '.join(each.set for each in self.sets)}>"

    def _repr_html_(self) -> str:
        from ddhub.reports import compare, escaping, tables

        if len(self.sets) == 1:
            return self.sets[0]._repr_html_()
        said = "".join(f"<li>{html.escape(escaping.oneline(text))}</li>" for text in compare.sentences(self))
        return f"{''.join(map(tables.html_table, compare.tables(self)))}<ul>{said}</ul>"
