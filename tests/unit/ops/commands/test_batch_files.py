"""The files of `smsctl batch`: none is emptied that is read, whatever name it goes by."""

import os
import pathlib
import stat

import pytest
from click.testing import CliRunner, Result

from ops.cli import cli

CONTENTS = "recipient,body\n12,Hello\n"


def batch(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["batch", *map(str, arguments), "--gateway", "127.0.0.1:1", "--patience", "1"])


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "file.csv"
    path.write_text(CONTENTS)
    return path


@pytest.mark.parametrize("option", ["--rejects", "--reasons"])
@pytest.mark.parametrize("how", ["same", "hard link", "symlink", "other spelling"])
def test_output_onto_the_input_is_refused_and_leaves_the_file_alone(source: pathlib.Path, option: str, how: str):
    other = source.parent / "other.csv"
    if how == "hard link":
        os.link(source, other)
    elif how == "symlink":
        other.symlink_to(source)
    else:
        other = source if how == "same" else pathlib.Path(f"{source.parent}/./x/../file.csv")
        (source.parent / "x").mkdir()
    done = batch(source, option, other)
    assert (done.exit_code, source.read_text()) == (1, CONTENTS)
    assert "uses already" in done.stderr


def test_both_outputs_in_one_file_are_refused(source: pathlib.Path, tmp_path: pathlib.Path):
    done = batch(source, "--rejects", tmp_path / "out", "--reasons", tmp_path / "out")
    assert (done.exit_code, "uses already" in done.stderr) == (1, True)


def test_file_that_is_no_batch_leaves_the_rejects_of_an_earlier_run_alone(source: pathlib.Path, tmp_path: pathlib.Path):
    source.write_text("nothing,of,this\n")
    rejects = tmp_path / "rejects.csv"
    rejects.write_text("precious")
    assert batch(source, "--rejects", rejects).exit_code == 1
    assert rejects.read_text() == "precious"


def test_rejects_can_be_read_by_their_owner_only(source: pathlib.Path, tmp_path: pathlib.Path):
    source.write_text("recipient,body\n")
    rejects = tmp_path / "rejects.csv"
    assert batch(source, "--dry-run", "--rejects", rejects).exit_code == 0
    assert stat.S_IMODE(rejects.stat().st_mode) & 0o077 == 0


def test_rejects_may_go_where_nothing_is_kept(source: pathlib.Path):
    source.write_text("recipient,body\n")
    assert batch(source, "--dry-run", "--rejects", "/dev/null", "--reasons", "/dev/null").exit_code == 0


def test_rejects_without_room_are_told_after_what_was_done(source: pathlib.Path):
    source.write_text("recipient,body,ttl\n12,Hello,soon\n")
    for options in (("--rejects", "/dev/full"), ("--rejects", "/dev/full", "--reasons", "/dev/null")):
        done = batch(source, *options)
        assert done.exit_code == 1
        assert "0 accepted" in done.stdout
        assert "smsctl: the output cannot be written: No space left on device" in done.stderr
