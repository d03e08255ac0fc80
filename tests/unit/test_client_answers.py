"""A file of answers goes on where it ended, and no other file is taken for one."""

from pathlib import Path

import pytest

from alexnet_client.answers import JsonLines

ROW = '{"file": "a.jpg", "labels": ["lynx"]}'


@pytest.mark.parametrize("foreign", ['{"important": "config"}', "a note", f"{ROW}\n[1]"])
def test_what_is_no_answer_is_refused_and_stays(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(foreign)
    with pytest.raises(ValueError, match=r"x\.jsonl holds something else than answers"):
        JsonLines(path)
    assert path.read_text() == foreign


@pytest.mark.parametrize(
    ("found", "kept"), [(ROW, f"{ROW}\n"), (f"{ROW}\n{ROW[:-1]}", f"{ROW}\n"), (ROW[:5], "")]
)
def test_a_last_line_that_was_cut_off_goes_and_a_whole_one_stays(
    tmp_path: Path, found: str, kept: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(found)
    answers = JsonLines(path)
    assert ("a.jpg" in answers) is bool(kept)
    answers.add({"file": "b.jpg"})
    answers.close()
    assert path.read_text() == kept + '{"file": "b.jpg"}\n'
