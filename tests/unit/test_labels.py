import pytest

from alexnet.labels import Label, Labels

HEADER = "index\tsynset\tnames\n"


def test_imagenet_has_1000_classes_in_the_order_of_their_synsets() -> None:
    labels = Labels.imagenet()
    synsets = [label.synset for label in labels.rows]
    assert len(labels) == len(set(synsets)) == 1000
    assert synsets == sorted(synsets)


@pytest.mark.parametrize(
    ("index", "synset", "name"),
    [
        (0, "n01440764", "tench"),
        (151, "n02085620", "Chihuahua"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_imagenet_positions_are_torchvisions(index: int, synset: str, name: str) -> None:
    labels = Labels.imagenet()
    assert (labels[index].synset, labels[index].name) == (synset, name)
    assert labels.index[synset] == index


def test_the_name_is_the_first_synonym() -> None:
    assert Label("n1", " great white shark, man-eater").name == "great white shark"
    assert Label("n1", "crane").name == "crane"
    label = Label("n1", "tench, Tinca tinca")
    assert label.name is label.name  # stored: each reply asks for it


@pytest.mark.parametrize(
    "labels",
    [Labels.imagenet(), Labels((Label("a", 'a "quoted" name, b'), Label("ünï", "日本")))],
    ids=["imagenet", "own"],
)
def test_tsv_round_trip(labels: Labels) -> None:
    assert Labels.from_tsv(labels.to_tsv()) == labels


def test_windows_line_ends_are_read() -> None:
    assert Labels.from_tsv("index\tsynset\tnames\r\n0\ta\tb\r\n").rows == (Label("a", "b"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns index, synset, names"),
        ("0\ta\tb\n", "columns index, synset, names"),
        (HEADER, "at least one class"),
        (HEADER + "0\ta\tx\n1\ta\ty\n", "appears twice"),
        (HEADER + "0\ta\tx\n2\tb\ty\n", "row 1"),
        (HEADER + "0\ta\n", "row 0"),
        (HEADER + "0\ta\tx\ty\n", "row 0"),
        (HEADER + "0\ta\tx\n\n1\tb\ty\n", "row 1"),
        (HEADER + "0\ta\rb\tx\n", "row 0"),
    ],
    ids=["empty", "no header", "no rows", "twice", "gap", "short", "long", "blank", "stray CR"],
)
def test_a_bad_class_list_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labels.from_tsv(text)
