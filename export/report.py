"""The report of `alexnet-evaluate`: as text, `report.json`, `classes.tsv` and `pairs.png`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alexnet.labels import Labels
from export.groups import score_groups
from training.evaluate import ClassScore, Score, worst_classes
from training.plots import plot_pairs

COLUMNS = ("subject", "synset", "name", "photos", "top1", "top5", "taken_for", "times")
PAIRS = "pairs.png"
TAKEN_FOR = 3  # wrong answers in the text, per class


@dataclass(frozen=True)
class SubjectScore:
    """The score of one subject, or of the ensemble of all."""

    subject: str
    model: str
    failed: int
    """Photos that could not be read; no other figure includes them."""
    score: Score
    classes: list[ClassScore]
    agreement: float = 1.0
    """The part of the photos on which its first class is that of the first subject."""

    def as_json(self, labels: Labels) -> dict[str, object]:
        return {
            "subject": self.subject,
            "model": self.model,
            "photos": self.score.photos,
            "failed": self.failed,
            "top1": round(self.score.top1, 6),
            "top1_standard_error": round(self.score.standard_error, 6),
            "top5": round(self.score.top5, 6),
            "agreement": round(self.agreement, 6),
            "groups": [
                {
                    "name": group.name,
                    "classes": group.classes,
                    "photos": group.score.photos,
                    "top1": round(group.score.top1, 6),
                    "top5": round(group.score.top5, 6),
                }
                for group in score_groups(self.classes, labels)
            ],
            "classes": [
                {
                    "synset": labels[c.target].synset,
                    "name": labels[c.target].name,
                    "photos": c.score.photos,
                    "top1": round(c.score.top1, 6),
                    "top5": round(c.score.top5, 6),
                    "taken_for": {labels[i].synset: times for i, times in c.taken_for},
                }
                for c in self.classes
            ],
        }


@dataclass(frozen=True)
class Report:
    """Scores on the same photos, of subjects with the same classes."""

    photos: list[Path]
    views: int
    classes: Path | None
    """The source of the classes to which the photos were restricted."""
    left_out: int
    """Photos of other classes."""
    unknown: int
    """Photos of classes that the subjects do not have."""
    labels: Labels
    scores: list[SubjectScore]

    @property
    def _subjects(self) -> list[SubjectScore]:
        """Without the ensemble, which comes last if there are several."""
        return self.scores[:-1] or self.scores

    def to_json(self) -> str:
        report = {
            "photos": list(map(str, self.photos)),
            "views": self.views,
            "left_out": self.left_out,
            "unknown": self.unknown,
            "scores": [score.as_json(self.labels) for score in self.scores],
        }
        return json.dumps(report, indent=1)

    def to_tsv(self) -> str:
        """A row per subject and class, with the most frequent wrong answer and its count."""
        rows: list[tuple[object, ...]] = [COLUMNS]
        for score in self.scores:
            for c in score.classes:
                label, (top1, top5, photos) = self.labels[c.target], c.score
                answer = [(self.labels[i].synset, times) for i, times in c.taken_for[:1]]
                figures = (photos, f"{top1:.6f}", f"{top5:.6f}")
                rows.append(
                    (score.subject, label.synset, label.name, *figures, *(answer or [("", 0)])[0])
                )
        return "".join("\t".join(map(str, row)) + "\n" for row in rows)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(self.to_json() + "\n", encoding="utf-8")
        (folder / "classes.tsv").write_text(self.to_tsv(), encoding="utf-8")
        score = self._subjects[-1]
        pairs = [
            (self.labels[c.target].name, self.labels[wrong].name, times, times / c.score.photos)
            for c in score.classes
            for wrong, times in c.taken_for
        ]
        plot_pairs(pairs, f"{score.subject}: what is most often taken for what", folder / PAIRS)

    def to_text(self, most: int) -> str:
        """All scores, those of groups, and the `most` worst classes of each."""
        tables = [self._groups(), *(self._worst(score, most) for score in self.scores if most)]
        return "\n".join([*self._summary(), *(line for table in tables for line in table)])

    def _summary(self) -> Iterator[str]:
        first, several = self.scores[0], len(self.scores) > 1
        found = first.score.photos + first.failed + self.left_out + self.unknown
        width = max(len(score.subject) for score in self.scores)
        agree = "agree  " * several
        yield f"{'subject':<{width}}   photos  failed   top-1  +- s.e.   top-5  {agree}model"
        for score in self.scores:
            a = score.score
            yield (
                f"{score.subject:<{width}}  {a.photos:>7,}  {score.failed:>6,}  {a.top1:>6.1%}  "
                f"{a.standard_error:>7.1%}  {self._top5(a)}  "
                f"{f'{score.agreement:>5.0%}  ' * several}{score.model}"
            )
        if several:
            yield f"\nagree: photos of which the first class is that of {first.subject}"
        yield f"\n{self.views} view{'s' * (self.views > 1)} of {', '.join(map(str, self.photos))}"
        if self.left_out:
            left_out = f"left out: {self.left_out:,} of {found:,} photos"
            yield f"{left_out}, of classes that are not in {self.classes}"
        if self.unknown:
            left_out = f"left out: {self.unknown:,} of {found:,} photos"
            yield f"{left_out}, of classes that the model does not have"

    def _groups(self) -> Iterator[str]:
        """A table of top-1, if there are several groups; the worst first, by the last subject."""
        groups = [score_groups(score.classes, self.labels) for score in self._subjects]
        if len(groups[-1]) < 2:
            return
        found = [{group.name: f"{group.score.top1:>6.1%}" for group in own} for own in groups]
        width = max(len(group.name) for group in groups[-1])
        yield f"\ntop-1 of {len(groups[-1])} groups of classes, the worst first"
        names = "  ".join(f"{score.subject[-12:]:>12}" for score in self._subjects)
        yield f"{'group':<{width}}  classes  photos  {names}"
        for name, classes, own in groups[-1]:
            figures = "  ".join(f"{top1.get(name, '-'):>12}" for top1 in found)
            yield f"{name:<{width}}  {classes:>7,}  {own.photos:>6,}  {figures}"

    def _worst(self, score: SubjectScore, most: int) -> Iterator[str]:
        shown = worst_classes(score.classes, most)
        yield f"\n{score.subject}: {len(shown)} of {len(score.classes)} classes, the worst first"
        labels = [self.labels[c.target] for c in shown]
        names = [f"{label.synset} {label.name}" for label in labels]
        width = max(map(len, names))
        yield f"{'class':<{width}}  photos   top-1   top-5  taken for"
        for name, c in zip(names, shown, strict=True):
            answers = [f"{self.labels[i].name} {times}" for i, times in c.taken_for[:TAKEN_FOR]]
            yield (
                f"{name:<{width}}  {c.score.photos:>6,}  {c.score.top1:>6.1%}  "
                f"{self._top5(c.score)}  {', '.join(answers)}".rstrip()
            )

    def _top5(self, score: Score) -> str:
        """Five guesses among five classes or fewer are always right."""
        return f"{score.top5:>6.1%}" if len(self.labels) > 5 else f"{'-':>6}"
