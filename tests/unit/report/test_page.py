"""The page of a report."""

import re

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
    assert "1.00 (-1.48 to 3.48)" in text and "1.00 (-1.48 to 3.48)" in out  # 1 +- 4.303 / sqrt(3)
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
