"""The model card: data, accuracy and limits of the model, for its users."""

from alexnet.manifest import Manifest, accuracy_in_words, minutes_in_words
from training.importers import TrainedModel

NAMED = 50  # classes that the card lists by name
TEMPLATE = """\
# {name} {version}

{description}

- Network: {arch}, {classes} outputs, photos of {known} classes seen{names}
- Trained on {photos:,} photos, recipe {recipe}, {minutes}, commit {commit}
{taught}- Input: uint8 RGB, {scaled} {resize} px, central {crop} px;
  the normalisation is in the graph
{pruning}
{rows}

Probabilities are a softmax over all classes{calibrated}. Do not use the model for
decisions about people.
{remarks}"""


def card(manifest: Manifest, model: TrainedModel, remarks: str = "") -> str:
    m, p = manifest, manifest.provenance
    # Five guesses among five classes or fewer are always right.
    columns = ["top-1", "top-5"] if m.learnt_classes > 5 else ["top-1"]
    header = ["artifact", *columns, "measured on", "keeps torch's first class"]
    rows = [header, ["---"] * len(header)]
    for a in m.artifacts:
        scores = ["not measured", *[""] * len(columns)]
        if a.accuracy:
            on = f"{a.accuracy.photos:,} photos, {a.accuracy.data}"
            values = (a.accuracy.top1, a.accuracy.top5)
            scores = [*(f"{value:.1%}" for value in values[: len(columns)]), on]
        rows.append([a.precision, *scores, f"{a.agreement:.1%}"])
    return TEMPLATE.format(
        name=m.model.name,
        version=m.model.version,
        description=m.model.description,
        classes=m.model.classes,
        known=m.model.known_classes,
        photos=p.train_photos,
        recipe=p.recipe,
        minutes=minutes_in_words(
            p.train_minutes, model.facts.get("run_minutes"), len(model.facts["lineage"])
        ),
        commit=p.commit,
        resize=m.preprocess.resize,
        crop=m.preprocess.crop,
        scaled="the whole photo to a square of"
        if m.preprocess.geometry == "warp"
        else "shorter side to",
        rows="\n".join(f"| {' | '.join(row)} |" for row in rows),
        names=_names(model),
        arch=model.network.arch,
        pruning=_pruning(model, m.learnt_classes),
        taught=_taught(m),
        calibrated=_calibrated(m),
        remarks=f"\n{remarks.strip()}\n" if remarks else "",
    )


def _names(model: TrainedModel) -> str:
    labels = model.labels
    if model.known < len(labels) or len(labels) > NAMED:
        return ""
    return ":\n  " + ", ".join(label.name for label in labels.rows)


def _taught(manifest: Manifest) -> str:
    taught = manifest.taught
    if taught is None:
        return ""
    alone = f"; {taught.classes} more classes are known from these answers only"
    return (
        f"- Taught by {taught.teacher}: its answers to {taught.photos:,} photos"
        f"{alone if taught.classes else ''}\n"
    )


def _calibrated(manifest: Manifest) -> str:
    fitted = manifest.calibration
    if fitted is None:
        return " and are not calibrated"
    return (
        f",\ncalibrated on {fitted.photos:,} photos (temperature {fitted.temperature:.2f}): "
        f"expected calibration error {fitted.error:.1%},\nbefore {fitted.error_before:.1%}"
    )


def _pruning(model: TrainedModel, learnt: int) -> str:
    dense, after = model.facts.get("dense"), model.facts.get("accuracy")
    if not dense or not after:
        return ""
    layers = model.network.fully_connected
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
    share = zeros / sum(layer.weight.numel() for layer in layers)
    before, pruned = (accuracy_in_words(s["top1"], s["top5"], learnt) for s in (dense, after))
    return (
        f"- Pruned: {share:.0%} of the fully connected weights are zero. In training, before: "
        f"{before}; after: {pruned} of {after['photos']:,} photos\n"
    )
