"""isonorm.write_report: the page of `isonorm stats --html`, byte for byte, and what must not happen to files."""

import os
import stat

import numpy as np
import pytest
from conftest import BF16, F32, random, write_safetensors

import isonorm

TENSORS = {"a<b>&.3.x": random((20, 65), F32, 1), "b": random((2, 3, 40), BF16, 2), "empty": np.zeros((0, 8), F32)}


def test_the_page_of_the_command(command, tmp_path):
    source, theirs, mine = tmp_path / "in.safetensors", tmp_path / "theirs.html", tmp_path / "in.safetensors.html"
    write_safetensors(source, TENSORS)
    command("stats", source, "--html", theirs, "--eps", 1e-5)
    isonorm.write_report(mine, TENSORS, eps=1e-5)
    expected = theirs.read_text(encoding="utf-8").replace(str(source), source.name)
    assert mine.read_text(encoding="utf-8") == expected
    assert set(os.listdir(tmp_path)) == {source.name, theirs.name, mine.name}


def test_one_array_and_several_without_names(tmp_path):
    isonorm.write_report(tmp_path / "one.html", TENSORS["b"])
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "isonorm stats: one" in page and "[2, 3, 40]" in page
    isonorm.write_report(str(tmp_path / "two.html"), list(TENSORS.values()))
    assert '"name":"2"' in (tmp_path / "two.html").read_text(encoding="utf-8")


def test_an_existing_file_stays(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="^path is .*report.html', which exists already; overwrite=True replaces it"):
        isonorm.write_report(path, TENSORS)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["report.html"]
    isonorm.write_report(path, TENSORS, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_failure_leaves_things_as_they_were(tmp_path):
    path = tmp_path / "report.html"
    for wrong in ({"x": np.arange(3)}, {"x": TENSORS["b"], "y": None}):
        with pytest.raises(TypeError):
            isonorm.write_report(path, wrong)
        with pytest.raises(ValueError, match="^eps is -1"):
            isonorm.write_report(path, TENSORS, eps=-1)
        assert os.listdir(tmp_path) == []
    path.write_text("mine")
    with pytest.raises(TypeError):
        isonorm.write_report(path, {"x": np.arange(3)}, overwrite=True)
    assert path.read_text() == "mine" and os.listdir(tmp_path) == ["report.html"]
    with pytest.raises(ValueError, match="^arrays is empty"):
        isonorm.write_report(path, [], overwrite=True)


def test_paths_that_cannot_be_written(tmp_path):
    for overwrite in (False, True):
        with pytest.raises(FileNotFoundError):
            isonorm.write_report(tmp_path / "missing" / "report.html", TENSORS, overwrite=overwrite)
        with pytest.raises(FileExistsError, match="not a regular file"):
            isonorm.write_report(tmp_path, TENSORS, overwrite=overwrite)
        with pytest.raises(FileExistsError, match="not a regular file"):
            isonorm.write_report("/dev/null", TENSORS, overwrite=overwrite)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "link.html").symlink_to("real.html")
    isonorm.write_report(tmp_path / "link.html", TENSORS, overwrite=True)
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "real.html").read_text(encoding="utf-8") != "old"


def test_the_mode_of_the_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        isonorm.write_report(tmp_path / "report.html", TENSORS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "report.html").st_mode) == 0o640
