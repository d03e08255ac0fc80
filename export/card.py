"""The model card: data, accuracy and limits of the model, for its users."""

from alexnet.manifest import Manifest
from training.importers import TrainedModel

TEMPLATE = """\
# {name} {version}

{description}

- Network: {arch}, {classes} outputs, photos of {known} classes seen
- Trained on {photos:,} photos, recipe {recipe}, {minutes:g} minutes, commit {commit}
- Input: uint8 RGB, {tile}shorter side to {resize} px, central {crop} px;
  the normalisation is in the graph
{pruning}
| artifact | top-1 | top-5 | measured on | keeps torch's first class |
|---|---|---|---|---|
{rows}

Probabilities are a softmax over all classes and are not calibrated. Do not use the model for
decisions about people.
{remarks}"""


def card(manifest: Manifest, model: TrainedModel, remarks: str = "") -> str:
    m, p = manifest, manifest.provenance
    rows = []
    for a in m.artifacts:
        scores = ("not measured", "", "")
        if a.accuracy:
            on = f"{a.accuracy.photos:,} photos, {a.accuracy.data}"
            scores = (f"{a.accuracy.top1:.1%}", f"{a.accuracy.top5:.1%}", on)
        rows.append(f"| {a.precision} | {' | '.join(scores)} | {a.agreement:.1%} |")
    return TEMPLATE.format(
        name=m.model.name,
        version=m.model.version,
        description=m.model.description,
        classes=m.model.classes,
        known=m.model.known_classes,
        photos=p.train_photos,
        recipe=p.recipe,
        minutes=p.train_minutes,
        commit=p.commit,
        resize=m.preprocess.resize,
        crop=m.preprocess.crop,
        tile=f"a JPEG tile of {m.preprocess.tile} px first, " if m.preprocess.tile else "",
        rows="\n".join(rows),
        arch=model.network.arch,
        pruning=_pruning(model),
        remarks=f"\n{remarks.strip()}\n" if remarks else "",
    )


def _pruning(model: TrainedModel) -> str:
    dense, after = model.facts.get("dense"), model.facts.get("accuracy")
    if not dense or not after:
        return ""
    layers = model.network.fully_connected
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
    share = zeros / sum(layer.weight.numel() for layer in layers)
    return (
        f"- Pruned: {share:.0%} of the fully connected weights are zero. In training, before and "
        f"after: top-1 {dense['top1']:.1%} and {after['top1']:.1%}, top-5 {dense['top5']:.1%} and "
        f"{after['top5']:.1%} of {after['photos']:,} photos\n"
    )
