import logging

from fedlmd.cli.notes import notes_shown

log = logging.getLogger("fedlmd.data.sources")


def test_notes_and_warnings_are_one_line_each_and_names_change_no_terminal(capsys):
    with notes_shown():
        log.info("of %d images 3 scaled", 5)
        log.warning("1 passed over: \x1b[2J\nevil")
        log.debug("nothing")
    log.info("later")
    assert capsys.readouterr() == ("", "of 5 images 3 scaled\nwarning: 1 passed over: \\x1b[2J\\nevil\n")


def test_the_level_is_as_before_after_an_error():
    package = logging.getLogger("fedlmd")
    before = package.level, list(package.handlers)
    try:
        with notes_shown():
            raise KeyError
    except KeyError:
        assert (package.level, list(package.handlers)) == before
