"""The report of `alexnet-evaluate`: as text, `report.json` and `classes.tsv`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alexnet.labels import Labels
from training.evaluate import ClassScore, Score, worst_classes

COLUMNS = ("subject", "synset", "name", "photos", "top1", "top5", "taken_for", "times")
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

    def as_json(self, labels: Labels) -> dict[str, object]:
        return {
            "subject": self.subject,
            "model": self.model,
            "photos": self.score.photos,
            "failed": self.failed,
            "top1": round(self.score.top1, 6),
            "top1_standard_error": round(self.score.standard_error, 6),
            "top5": round(self.score.top5, 6),
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
        (folder / "report.json").write_text(self.to_json() + "\n")
        (folder / "classes.tsv").write_text(self.to_tsv())

    def to_text(self, most: int) -> str:
        """All scores, and the `most` worst classes of each."""
        tables = [self._worst(score, most) for score in self.scores if most]
        return "\n".join([*self._summary(), *(line for table in tables for line in table)])

    def _summary(self) -> Iterator[str]:
        first = self.scores[0]
        found = first.score.photos + first.failed + self.left_out + self.unknown
        width = max(len(score.subject) for score in self.scores)
        yield f"{'subject':<{width}}   photos  failed   top-1  +- s.e.   top-5  model"
        for score in self.scores:
            a = score.score
            yield (
                f"{score.subject:<{width}}  {a.photos:>7,}  {score.failed:>6,}  {a.top1:>6.1%}  "
                f"{a.standard_error:>7.1%}  {a.top5:>6.1%}  {score.model}"
            )
        yield f"\n{self.views} view{'s' * (self.views > 1)} of {', '.join(map(str, self.photos))}"
        if self.left_out:
            left_out = f"left out: {self.left_out:,} of {found:,} photos"
            yield f"{left_out}, of classes that are not in {self.classes}"
        if self.unknown:
            left_out = f"left out: {self.unknown:,} of {found:,} photos"
            yield f"{left_out}, of classes that the model does not have"

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
                f"{c.score.top5:>6.1%}  {', '.join(answers)}".rstrip()
            )
