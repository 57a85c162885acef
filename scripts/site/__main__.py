"""The site: the README, the guide, a page for each preset, the experiments and all docstrings, as files to open.

`python scripts/site FOLDER` writes it. pdoc renders the pages and their search; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import pkgutil
import posixpath
import re
import shutil
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ForwardRef

import pdoc
from pdoc.doc_types import resolve_annotations

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import presets  # noqa: E402  # of this folder

from rlopt.config.choices import file  # noqa: E402

SHOWN_AS_TEXT = (".yaml", ".py", ".md", "")  # files that a browser would rather save than show
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)\s]*)?\)")


def markdown_pages() -> dict[str, Path]:
    """Site page -> Markdown file of the repository."""
    found = {"index": ROOT / "README.md", "questions": ROOT / "rlopt/guide/README.md"}
    found |= {path.stem.lower(): path for path in sorted((ROOT / ".github").glob("*.md"))}
    found["experiments"] = ROOT / "experiments/README.md"
    found |= {f"experiments.{path.parent.name}": path for path in sorted(ROOT.glob("experiments/*/README.md"))}
    return found


class Text:
    """Stands for a type that cannot be looked up: pdoc shows it as it is, and asks for nothing."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def field_types(kind: type) -> dict[str, object]:
    """Types of a named tuple's fields; those that only a type checker imports are looked up as pdoc does it."""
    with warnings.catch_warnings(action="ignore"):
        found = resolve_annotations(kind.__annotations__, import_module(kind.__module__), None, kind.__qualname__)
    return {name: Text(of.__forward_arg__) if isinstance(of, ForwardRef) else of for name, of in found.items()}


def modules() -> dict[str, pdoc.doc.Module]:
    """Every module of rlopt, by name."""
    names = ["rlopt", *(found.name for found in pkgutil.walk_packages(import_module("rlopt").__path__, "rlopt."))]
    names = [name for name in names if not name.endswith("__main__")]
    for name in names:
        # types of a named tuple's fields are text, looked up in typing
        for kind in list(vars(import_module(name)).values()):
            if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
                if kind.__module__.startswith("rlopt."):
                    kind.__annotations__ = kind.__new__.__annotations__ = field_types(kind)
    return {name: pdoc.doc.Module(import_module(name)) for name in names}


def relative(name: str, target: str) -> str:
    """The address of a place in the site, from the page of this name."""
    return posixpath.relpath(target, posixpath.dirname(f"{name.replace('.', '/')}.html") or ".")


def as_page(name: str, text: str) -> pdoc.doc.Module:
    return pdoc.doc.Module(ModuleType(name, text))


class Site:
    """Where everything of the repository goes in the folder ``out``."""

    def __init__(self, out: Path):
        self.out = out
        self.pages = markdown_pages()
        self._by_file = {path: name for name, path in self.pages.items()}

    def target(self, path: Path) -> str:
        """The place in the site of a file of the repository; what is no page is copied there."""
        if name := self._by_file.get(path):
            return f"{name.replace('.', '/')}.html"
        inside = path.relative_to(ROOT)
        if path.suffix == ".py" and inside.parts[0] == "rlopt":
            module = inside.parent if path.name == "__init__.py" else inside.with_suffix("")
            return f"{module}.html"
        if path.is_dir():
            return self.target(path / "README.md" if (path / "README.md").exists() else path / "__init__.py")
        return self.copied(path)

    def copied(self, path: Path) -> str:
        """The place of a copy of the file, which a browser shows."""
        inside = path.relative_to(ROOT)
        place = f"{inside}.txt" if path.suffix in SHOWN_AS_TEXT else str(inside)
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.out / place)
        return place

    def moved(self, name: str, path: Path) -> str:
        """A Markdown file's text with its links as they are in the site, and one to its source."""

        def link(match: re.Match[str]) -> str:
            text, address, anchor = match[1], match[2], match[3] or ""
            if ":" in address:
                return match[0]
            return f"{text}({relative(name, self.target((path.parent / address).resolve()))}{anchor})"

        return LINK.sub(link, path.read_text()) + self.source(name, path)

    def source(self, name: str, path: Path) -> str:
        """A line that leads to the file that a page is made from."""
        return f"\n\n---\n\nSource of this page: [{path.relative_to(ROOT)}]({relative(name, self.copied(path))})\n"


def make(out: Path) -> None:
    """Write the site."""
    out.mkdir(parents=True, exist_ok=True)
    site = Site(out)
    pages = {name: as_page(name, site.moved(name, path)) for name, path in site.pages.items()}
    pages |= modules()
    for preset, text in presets.pages(out / "rlopt/guide/presets").items():
        name = f"rlopt.guide.presets.{preset}"
        pages[name] = as_page(name, text + site.source(name, file("algo", preset)))
    templates = Path(__file__).parent / "templates"
    pdoc.render.configure(docformat="markdown", footer_text="rlopt", template_directory=templates)
    for name, page in pages.items():
        place = out / f"{name.replace('.', '/')}.html"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(pdoc.render.html_module(page, pages))
    # without pictures and links, whose addresses are those of their own page
    excerpts = re.sub(r"<img\b[^>]*>|</?a\b[^>]*>", "", pdoc.render.search_index(pages))
    (out / "search.js").write_text(excerpts + (templates / "ranking.js").read_text())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    make(folder)
    print(f"{folder / 'index.html'}")
