"""The page of a report."""

import re
from urllib.parse import unquote

import pytest

from rlopt.cli import main as cli
from tests.support.recorded import LINE


def report(folder, *options):
    assert cli.main(["report", str(folder), *options]) == 0
    return (folder / "report.html").read_text()


def test_the_page_holds_all_it_shows(write_run, tmp_path, capsys):
    for seed in range(3):
        write_run(f"t{seed}", LINE, seed=seed, score=float(seed))
        write_run(f"p{seed}", LINE, seed=seed, algo="<ppo>", score=2.0)
    write_run("late", LINE, seed=9, summary=False)
    text = report(tmp_path)
    out, err = capsys.readouterr()
    assert len(re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,', text)) == 5 == text.count("<img")
    assert not re.search(r"<script|<link|https?://|url\(", text)
    assert "&lt;ppo&gt;" in text and "<ppo>" not in text
    assert "late" in text and "late" in err and "unfinished" in err
    assert "1.00 (0.00 to 3.48)" in text and "1.00 (0.00 to 3.48)" in out  # 1 +- 4.303 / sqrt(3), from 0 on
    assert (tmp_path / "report.md").read_text() in out


def test_a_page_takes_the_place_of_a_link(write_run, tmp_path):
    write_run("a", LINE)
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    for name in ("report.html", "report.md"):
        (tmp_path / name).symlink_to(treasure)
    assert cli.main(["report", str(tmp_path)]) == 0
    assert treasure.read_text() == "mine" and "<html" in (tmp_path / "report.html").read_text()


def test_a_report_on_several_environments_and_on_one_run(write_run, tmp_path):
    write_run("one/a", LINE)
    assert "Performance profile" in report(tmp_path / "one")
    write_run("b", LINE, env="Pendulum-v1")
    write_run("c", LINE, env="Pendulum-v1", seed=1)
    assert "All environments together" in report(tmp_path, "--range", "CartPole-v1=0,500")


NASTY = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:b)", "![a](http://b)", "|a|", "a\nb\x1b[2J",
         "`a`", r"$\frac{1}$"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_name_is_text_on_page_table_and_terminal(write_run, tmp_path, capsys, name):
    for seed in range(2):
        write_run(f"a{seed}", LINE, seed=seed, algo=name)
        write_run(f"b{seed}", LINE, seed=seed, env=name)
    text = report(tmp_path)
    written, out = (tmp_path / "report.md").read_text(), capsys.readouterr().out
    for shown in (text, written):
        assert not re.search(r"<script|<img src=x|\x1b", shown)
    assert not re.search(r"\]\(|[^\\]`", written) and "\x1b" not in out
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in written.splitlines() if line.startswith("| ")}) <= 2


def test_returns_beyond_all_bounds_are_left_out_in_one_line(write_run, tmp_path, capsys):
    write_run("a", LINE)
    write_run("b", [(10, 1e30), (20, 2e30)], seed=1, score=1e30)
    (tmp_path / "c").mkdir()
    for name in ("config.yaml", "summary.json"):
        (tmp_path / "c" / name).write_text((tmp_path / "a" / name).read_text().replace("seed: 0", "seed: 2"))
    (tmp_path / "c" / "scalars.csv").write_text("step,episode/return\n10,1\n20,1e308\n")
    text = report(tmp_path)
    assert "it holds 1e+308, and no more than 1e+100 can be drawn" in capsys.readouterr().err
    assert "5.000e+29" in text and "0" * 20 not in re.sub('base64,[^"]*', "", text)


def test_the_page_links_to_the_configurations_and_videos_of_runs(write_run, tmp_path, capsys):
    for seed in range(2):
        folder = write_run(f"one/a <{seed}>", LINE, seed=seed)
    (folder / "video.mp4").write_bytes(b"film")
    (tmp_path / "pages").mkdir()
    assert cli.main(["report", str(tmp_path / "one"), "--out", str(tmp_path / "pages/r.html")]) == 0
    text = (tmp_path / "pages/r.html").read_text()
    links = re.findall(r'<a href="([^"]*)">(\w+)</a>', text)
    assert sorted(name for _, name in links) == ["config", "config", "video"]
    assert all((tmp_path / "pages" / unquote(place)).is_file() for place, _ in links)


@pytest.mark.parametrize("changed", [False, True])
def test_intervals_end_where_the_returns_do(write_run, tmp_path, capsys, changed):
    """Of CartPole, whose returns are known; not where its reward may be another one."""
    own = {"env": "CartPole-v1"}
    for seed, score in enumerate((100.0, 490.0)):
        write_run(f"a{seed}", LINE, seed=seed, score=score, **own, **({"env.kwargs": {"x": 1}} if changed else {}))
    text = report(tmp_path)
    assert ("295.0 (0.0 to 500.0)" in text) != changed and ("295.0 (-2,182.7 to 2,772.7)" in text) == changed
    assert ("end at the least and the greatest return: CartPole-v1 0 to 500." in text) != changed
