"""Files of strangers: what is no regular file, too large or too deep is refused at once, in one line."""

import os
import time
from pathlib import Path

import pytest
import yaml

from rlopt.config.choices import conf_dir
from rlopt.files import reading
from rlopt.files.reading import check_depth, exists, open_regular, read_json, read_yaml


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**33)


ODD = {
    "a pipe": (os.mkfifo, "no regular file"),
    "a folder": (Path.mkdir, "no regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "eight gigabytes": (_sparse, "larger than 1,000,000 bytes"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "utf-8"),
}
DEEP = 3000
TEXTS = {
    "aliases of aliases": "a: &a [1, 1]\n"
    + "".join(f"{c}: &{c} [*{d}, *{d}]\n" for c, d in zip("bcdefgh", "abcdefg", strict=True)),
    "a deep list": "a: " + "[" * DEEP + "]" * DEEP,
    "a deep mapping": "{a: " * DEEP + "1" + "}" * DEEP,
    "deep lines": "\n".join(" " * i + "a:" for i in range(DEEP // 10)),
    "a number of 5,000 digits": "a: " + "9" * 5000,
    "a number of 400 digits": "a: " + "9" * 400,
    "a number in base 60": "a: 1" + ":1" * 100_000,
    "a long word": "a: " + "x" * 100_000,
    "a tag": "a: !!python/object/apply:os.system [id]",
    "a set": "a: !!set {b, c}",
    "bytes": "a: !!binary aGVsbG8=",
    "a key that is a list": "[a, b]: 1",
    "a key twice": "a: 1\na: 2",
    "two documents": "a: 1\n---\na: 2",
    "no yaml": "a: [1,",
    "zeros": "a: \0",
}


@pytest.mark.parametrize(("make", "said"), ODD.values(), ids=ODD)
def test_what_is_no_small_regular_file_is_refused(tmp_path, make, said):
    make(tmp_path / "file")
    for read in (read_yaml, read_json):
        with pytest.raises(ValueError, match=said):
            read(tmp_path / "file")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_yaml_that_is_large_deep_or_not_plain_is_refused(tmp_path, text):
    (tmp_path / "file").write_text(text)
    before = time.process_time()
    with pytest.raises(ValueError) as caught:
        read_yaml(tmp_path / "file")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    "text", ["[" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, '"[' + "[" * 50, "9" * 5000, "9" * 400, "{"]
)
def test_json_that_is_deep_or_large_is_refused(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "file")


def test_brackets_within_text_are_no_depth(tmp_path):
    text = '{"a": "' + "[" * DEEP + '\\"' + "{" * DEEP + '"}'
    check_depth(text)
    (tmp_path / "file").write_text(text)
    assert read_json(tmp_path / "file") == {"a": "[" * DEEP + '"' + "{" * DEEP}


def test_a_size_that_grows_after_the_look_is_bounded(tmp_path, monkeypatch):
    """As a file of /proc, which says that it is empty."""
    (tmp_path / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(reading, "open_regular", lambda path, largest: open(path, "rb"))
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        reading.read_text(tmp_path / "file", 10)


def test_a_link_is_followed_or_refused(tmp_path):
    (tmp_path / "there").write_text("a: 1")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "nowhere").symlink_to("gone")
    assert read_yaml(tmp_path / "link") == {"a": 1}
    with pytest.raises(ValueError, match="it is a link"):
        open_regular(tmp_path / "link", 100, follow=False)
    assert exists(tmp_path / "nowhere") and not exists(tmp_path / "gone") and not exists(tmp_path / "there" / "below")


def test_numbers_and_dates_are_read_as_hydra_reads_them(tmp_path):
    from omegaconf import OmegaConf

    words = ["1e-3", "1.", ".5", "1_000", "1e5", "-3", "0x1f", "017", ".inf", "-.inf", "yes", "off", "null",
             "2020-01-01", "1:30", "~", "'1'", "${a}", "???", "1.5e", "e5", "text"]  # fmt: skip
    (tmp_path / "file").write_text("".join(f"k{i}: {word}\n" for i, word in enumerate(words)))
    assert read_yaml(tmp_path / "file") == OmegaConf.to_container(OmegaConf.load(tmp_path / "file"))


def test_every_choice_is_read_as_hydra_reads_it():
    from omegaconf import OmegaConf

    files = sorted(conf_dir().rglob("*.yaml"))
    assert len(files) > 50
    for file in files:
        assert (read_yaml(file) or {}) == OmegaConf.to_container(OmegaConf.load(file)), file


def test_the_limits_hold_without_the_compiled_parser(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_Loader", type("Plain", (reading._Loader, yaml.SafeLoader), {}))
    (tmp_path / "file").write_text(TEXTS["a deep list"])
    with pytest.raises(ValueError) as caught:
        read_yaml(tmp_path / "file")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
