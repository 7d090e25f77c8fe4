"""docs/guides/formats.md says what is loaded, changed, passed over and refused."""

from tests.docs.formats import PAGE, expanded, page


def test_the_page_says_what_becomes_of_each_layout_and_format(tmp_path):
    assert page(tmp_path) == PAGE.read_text(encoding="utf-8"), "python -m tests.docs.formats writes it"


def test_the_page_names_no_path_of_a_machine(tmp_path):
    assert str(tmp_path.parent.parent) not in PAGE.read_text(encoding="utf-8")
    assert "/tmp" not in PAGE.read_text(encoding="utf-8")


def test_a_pattern_stands_for_names():
    assert expanded("{a,b}/{1..2}.png") == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    assert expanded("x.csv") == ["x.csv"]
