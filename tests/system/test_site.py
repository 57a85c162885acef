"""The site of scripts/docs and the ways through it: every link leads somewhere, and nothing comes from elsewhere."""

import importlib.util
import re
import sys
from collections import namedtuple
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ForwardRef

import pdoc
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
QUESTIONS = ROOT / "rlopt/guide/README.md"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SOME = ["rlopt", "rlopt.guide", "rlopt.guide.choosing", "rlopt.guide.presets", "rlopt.core.solvers.cg"]


@pytest.fixture
def site(monkeypatch) -> ModuleType:
    """The module of scripts/site."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("site_of_rlopt", ROOT / "scripts/site/__main__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("presets", None)


def links(text: str) -> list[str]:
    return [address for address in LINK.findall(text) if ":" not in address]


def rows() -> list[list[str]]:
    """The cells of every question."""
    lines = QUESTIONS.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")][1:]


def broken(folder: Path) -> list[str]:
    """Addresses on the pages of a site that lead nowhere in it."""
    found = []
    for page in folder.rglob("*.html"):
        text = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
        for address in re.findall(r'(?:href|src)="([^"#]+)', text):
            if not address.startswith(("http", "data:", "mailto:")) and not (page.parent / address).exists():
                found.append(f"{page.relative_to(folder)}: {address}")
    return found


def loaded_from_elsewhere(page: Path) -> list[str]:
    """What a browser would ask a server for."""
    text = page.read_text()
    tags = re.findall(r'<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"', text)
    return tags + re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", text)


def test_the_readme_is_short_and_leads_on():
    assert len(README.splitlines()) <= 150
    assert all((ROOT / address).exists() for address in links(README))
    listed = README.partition("## Where to read on")[2].partition("\n## ")[0]
    assert len([line for line in listed.splitlines() if "](" in line]) <= 12
    assert "rlopt/guide/README.md" in links(README)


def test_the_first_screen_has_the_two_commands_and_the_reasons():
    screen = "\n".join(README.splitlines()[:32])
    for part in ("scripts/train", "scripts/test", "Stable-Baselines3", "Exact resume", "intervals", "<!-- results -->"):
        assert part in screen, part


def test_the_readmes_speeds_are_those_that_were_measured():
    table = (ROOT / "experiments/speed/README.md").read_text()
    ratios = [re.search(rf"^\| {algo}: rlopt workers={n} \|[^|]*\| ([\d.]+)", table, re.MULTILINE)[1]
              for algo in ("TRPO", "PPO") for n in (1, 2)]  # fmt: skip
    told = [f"{float(ratio):.1f}" for ratio in ratios]
    text = " ".join(README.split())
    assert f"TRPO trains {told[0]} times as fast as sb3-contrib by one process and {told[1]} times by two" in text
    assert f"PPO {told[2]} and {told[3]} times as fast as stable-baselines3" in text


def test_every_question_has_an_answer_one_click_away():
    assert len(rows()) >= 20 and all(len(row) == 3 and row[1] for row in rows())
    for question, _, more in rows():
        found = links(more)
        assert found, question
        assert all((QUESTIONS.parent / address).resolve().is_file() for address in found), question


def test_every_page_of_the_guide_is_found_from_the_questions():
    pages = {path.name for path in QUESTIONS.parent.glob("[!_]*.py")}
    assert pages - {Path(address).name for _, _, more in rows() for address in links(more)} == set()


def test_the_site_holds_together(site, monkeypatch, tmp_path):
    """Of a few modules and one preset."""
    out, every = tmp_path / "site", site.markdown_pages()
    monkeypatch.setattr(site, "modules", lambda: {name: pdoc.doc.Module(import_module(name)) for name in SOME})
    monkeypatch.setattr(site.presets, "choices", lambda group: ["trpo", "svrpg"])
    monkeypatch.setattr(site, "markdown_pages", lambda: {name: every[name] for name in ("index", "experiments.speed")})
    site.make(out)
    preset = (out / "rlopt/guide/presets/trpo.html").read_text()
    assert "Trust region policy optimization, eq. 14" in preset and "CartPole-v1" in preset and "trpo.svg" in preset
    assert "None yet" in (out / "rlopt/guide/presets/svrpg.html").read_text()
    assert (out / "experiments/speed/peers.png").exists() and (out / "rlopt/guide/presets/trpo.svg").exists()
    assert 'href="../../../conf/algo/trpo.yaml.txt"' in preset and (out / "conf/algo/trpo.yaml.txt").exists()
    front = (out / "index.html").read_text()
    assert 'href="experiments/speed.html"' in front and 'href="rlopt/guide/choosing.html"' in front
    for page in out.rglob("*.html"):
        assert "width=device-width" in page.read_text()
        assert re.search(r"prefers-color-scheme: ?dark", page.read_text())
        assert loaded_from_elsewhere(page) == []
    assert (out / "search.js").read_text().startswith(("\n", "window", "/*")) and "conjugate" in (
        out / "search.js"
    ).read_text()


def test_what_a_browser_would_fetch_is_seen(tmp_path):
    page = tmp_path / "a.html"
    page.write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">x</a><img src="no.png">'
    )
    assert len(loaded_from_elsewhere(page)) == 1
    assert broken(tmp_path) == ["a.html: no.png"]


def test_the_types_of_every_named_tuple_are_found(site):
    """Those of the modules, private ones too; pdoc finds the types of everything else by itself."""
    kinds = {kind for page in site.modules().values() for kind in vars(page.obj).values() if isinstance(kind, type)}
    named = [kind for kind in kinds if hasattr(kind, "_fields") and kind.__module__.startswith("rlopt.")]
    of = {(kind, field): kind.__new__.__annotations__[field] for kind in named for field in kind._fields}
    assert len(of) > 60 and not [
        place for place, found in of.items() if isinstance(found, (str, ForwardRef, site.Text))
    ]


def test_a_type_that_is_nowhere_is_shown_as_text(site):
    lost = namedtuple("lost", "a b")
    lost.__annotations__ = {name: ForwardRef(text) for name, text in (("a", "int"), ("b", "nowhere.Found | None"))}
    lost.__annotations__ = lost.__new__.__annotations__ = site.field_types(lost)
    page = pdoc.doc.Class(__name__, "lost", lost, (__name__, "lost"))
    assert str(page.members["__init__"].signature) == "(_cls, a: int, b: nowhere.Found | None)"
    assert page.members["b"].annotation_str == ": nowhere.Found | None"


@pytest.mark.learning
def test_the_whole_site_is_made_without_a_warning(site, tmp_path):
    """As scripts/docs makes it; most of a minute."""
    site.make(tmp_path / "site")
    page = (tmp_path / "site/rlopt/guide/options.html").read_text()
    assert "step.radius" in page and "levenberg_marquardt" in page
    assert broken(tmp_path / "site") == []
