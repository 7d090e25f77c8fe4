import pytest

from fedlmd.cli.demo.labels import DemoError, choose_labels, given_labels, label_lists, shortened
from fedlmd.data import DataError

TEN = tuple("0123456789")


@pytest.mark.parametrize(
    ("present", "known", "unknown"),
    [
        (TEN, "0123456", "789"),
        (tuple("abcde"), "abcd", "e"),
        (tuple("abc"), "ab", "c"),
    ],
)
def test_without_a_choice_the_last_third_of_the_labels_is_unknown(present, known, unknown):
    assert choose_labels(present, (), ()) == (tuple(known), tuple(unknown))


def test_without_a_choice_the_usual_labels_of_a_source_are_unknown():
    assert choose_labels(TEN, (), (), usual=("1", "9")) == (tuple("02345678"), ("1", "9"))
    assert choose_labels(TEN, ("1", "9"), (), usual=("1", "9")) == (("1", "9"), tuple("02345678"))


def test_where_one_list_is_given_the_other_is_all_other_labels():
    assert choose_labels(tuple("abcd"), ("d", "a"), ()) == (("d", "a"), ("b", "c"))
    assert choose_labels(tuple("abcd"), (), ("b",)) == (("a", "c", "d"), ("b",))
    assert choose_labels(TEN, tuple("01"), tuple("89")) == (("0", "1"), ("8", "9"))


def test_a_label_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DataError, match="there is no label 'x'; there are a, b, c"):
        choose_labels(tuple("abc"), ("a", "x"), ())
    with pytest.raises(DataError, match="there is no label 'A', but 'a', which differs only in case"):
        choose_labels(tuple("abc"), (), ("A",))


def test_a_label_cannot_be_learnt_and_be_unknown():
    with pytest.raises(DemoError, match="label 'b' is to be learnt and to be unknown"):
        choose_labels(tuple("abcd"), tuple("ab"), tuple("bc"))


@pytest.mark.parametrize(
    ("known", "unknown", "message"),
    [
        ((), (), "1 label left to learn, where two are needed; there are a, b: name fewer with --unknown, or add"),
        (("a",), (), "1 label left to learn, where two are needed; there are a, b: name more with --labels, or add"),
        ((), ("a", "b"), "0 labels left to learn"),
        (("a", "b"), (), "no label is left to be unknown"),
    ],
)
def test_two_labels_to_learn_and_one_unknown_are_needed(known, unknown, message):
    with pytest.raises(DemoError, match=message):
        choose_labels(("a", "b"), known, unknown)


def test_labels_of_an_option_are_separated_by_commas():
    assert given_labels(" red fox ,cat,,") == ("red fox", "cat")
    assert given_labels("") == ()


def test_each_worker_lacks_another_label_in_turn_from_the_last_one_on():
    assert label_lists("01234", 2) == [list("0123"), list("0124")]
    assert label_lists("abc", 2) == [list("ab"), list("ac")]
    assert label_lists("abc", 4) == [list("ab"), list("ac"), list("bc"), list("ab")]


def test_two_labels_are_at_every_worker():
    assert label_lists("ab", 3) == [["a", "b"]] * 3


def test_a_list_of_many_labels_is_shortened():
    assert shortened([str(number) for number in range(22)]).endswith("18, 19 and 2 more")
