"""The documentation says what is true: names, commands, code and links in it exist."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pandas as pd
import pytest
import typer
from conftest import tiny
from packaging.requirements import Requirement

import lens_emotion as le
from lens_emotion.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INSTALL = ROOT / "docs" / "install.md"
EXTRAS = re.compile(r"lens-emotion\[([\w, ]+)\]")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@cache
def site() -> ModuleType:
    """The site's hooks, a script that is no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "scripts" / "docs_site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str, title: str = "") -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for kind, rest, code in found if kind == language and title in rest]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_public_name_is_in_the_api_reference() -> None:
    hooks = site()
    listed = {name for pairs in hooks.api_rooms().values() for _, name in pairs}
    assert set(le.__all__) - {"__version__", "plots"} <= listed
    assert set(le.plots.__all__) <= listed
    assert all(len(pairs) == len(set(pairs)) for pairs in hooks.api_rooms().values())
    pages = "".join(hooks.api_page(room) for room in hooks.api_rooms())
    assert all(f".{name}\n" in pages for name in listed)


def test_every_entry_of_the_api_reference_exists() -> None:
    for pairs in site().api_rooms().values():
        for module, name in pairs:
            assert hasattr(importlib.import_module(f"lens_emotion.{module}"), name), (module, name)


def test_the_reference_names_a_function_where_it_is_defined() -> None:
    assert ("analysis.circumplex", "circumplex") in site().api_rooms()["analysis"]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=named)
def test_code_blocks_compile(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


def test_the_quick_start_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks(ROOT / "docs" / "index.md", "python", "quick start")
    assert len(code) == 3
    exec("\n".join(code), {})
    said = capsys.readouterr().out
    assert "Held-out 20-way decoding" in said and "The door opened and" in said
    assert (tmp_path / "layers.html").exists()


def test_the_readmes_six_lines_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    shown = []
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: shown.append(figure))
    exec(blocks(ROOT / "README.md", "python")[0], {})
    assert len(shown) == 1 and "The door opened and" in capsys.readouterr().out


def test_the_ten_tasks_run_in_six_lines_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture, untyped: None
) -> None:
    monkeypatch.chdir(tmp_path)
    small_where_downloaded(monkeypatch)
    page = ROOT / "docs" / "coming-from.md"
    tasks = blocks(page, "python", "task")
    assert len(tasks) == len(re.findall(r"^## \d+\.", page.read_text(encoding="utf-8"), re.MULTILINE)) == 10
    names: dict[str, object] = {}
    for code in tasks:
        assert len(code.strip().splitlines()) <= 6, code
        exec(code, names)
    assert "other" in capsys.readouterr().out and (tmp_path / "calm.gguf").exists()


def small_where_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries' own loaders give the tiny GPT-2 where "gpt2" would be downloaded, and go on as they are else."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = le.models.loading.resolve("tiny-gpt2").location
    for loader, name in ((AutoModelForCausalLM, "from_pretrained"), (AutoTokenizer, "from_pretrained")):
        known = getattr(loader, name)
        monkeypatch.setattr(loader, name, lambda n, *a, known=known, **k: known(folder if n == "gpt2" else n, *a, **k))
    boot = TransformerBridge.boot_transformers
    monkeypatch.setattr(
        TransformerBridge,
        "boot_transformers",
        lambda n, *a, **k: le.load_model("tiny-gpt2") if n == "gpt2" else boot(n, *a, **k),
    )


OWN = """{"name": "mine", "items": [
  {"id": "j1", "emotion": "jealous", "topic": "letter", "text": "She saw the letter that he had sent to Anna."},
  {"id": "j2", "emotion": "jealous", "topic": "train", "text": "On the train he sat beside Anna and not her."},
  {"id": "c1", "emotion": "curious", "topic": "letter", "text": "What was in the letter? She held it to the light."},
  {"id": "c2", "emotion": "curious", "topic": "train", "text": "Where did the train go? She asked everybody."},
  {"id": "n1", "emotion": "neutral", "topic": "letter", "text": "The letter lay on the table near the door."}]}"""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, untyped: None) -> dict[str, object]:
    """Where snippets run: models that would be downloaded are tiny ones, files that a reader has are there."""
    import transformer_lens

    small = tiny()

    class Hooked:
        @staticmethod
        def from_pretrained_no_processing(name: str) -> object:
            return small

    load = le.load_model
    monkeypatch.setattr(
        le, "load_model", lambda name, **how: load(name, **how) if name.startswith("tiny-") else small, raising=False
    )
    small_where_downloaded(monkeypatch)
    monkeypatch.setattr(transformer_lens, "HookedTransformer", Hooked, raising=False)
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text(OWN)
    return {"model": small}


@pytest.mark.parametrize("name", ["README.md", "docs/precision.md", "docs/your-own.md", "docs/larger-models.md"])
def test_every_snippet_of_a_page_runs_in_order(
    name: str, offline: dict[str, object], vectors: object, tmp_path: Path
) -> None:
    page = ROOT / name
    for title, code in [(title, code) for kind, title, code in FENCE.findall(page.read_text()) if kind == "toml"]:
        (tmp_path / title.split('"')[1]).write_text(code)
    names = offline | {"vectors": vectors}
    for code in blocks(page, "python"):
        exec(code, names)


def test_the_audits_snippets_run(acts: object, vectors: object, untyped: None) -> None:
    rows = pd.DataFrame({"layer": [1, 2], "avg_sim": [-0.049, -0.048], "best": [True, False]})
    norms = [np.array([1292.0, *[19.8] * 9])]
    names = {"le": le, "acts": acts, "vectors": vectors, "acts_16": acts, "acts_8": acts, "df": rows, "norms": norms}
    for code in blocks(ROOT / "docs" / "methods" / "audit.md", "python"):
        exec(code, names)


@pytest.mark.parametrize("page", ["published", "sealed"])
def test_the_code_of_the_protocol_and_of_the_seal_runs_as_printed(page, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"le": le}
    for code in blocks(ROOT / "docs" / "methods" / f"{page}.md", "python"):
        exec(code, names)
    assert "published rule" in capsys.readouterr().out or page == "sealed"


def test_every_page_with_code_is_run() -> None:
    run = {"README.md", "docs/precision.md", "docs/your-own.md", "docs/larger-models.md", "docs/index.md"}
    run |= {"docs/coming-from.md", "benchmarks/README.md"}  # the last is a signature: it compiles
    run |= {"docs/methods/audit.md", "docs/gallery.md"}  # above, and in tests/test_docs_gallery.py
    run |= {"docs/methods/published.md", "docs/methods/sealed.md"}  # above
    assert {named(p) for p in PAGES if blocks(p, "python")} == run


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_extras_that_are_named_exist() -> None:
    texts = {p: p.read_text(encoding="utf-8") for p in (*PAGES, *(ROOT / "lens_emotion").rglob("*.py"))}
    named_there = {(p, e) for p, t in texts.items() for part in EXTRAS.findall(t) for e in re.split(r"\s*,\s*", part)}
    assert {e for _, e in named_there} <= extras(), sorted(map(str, named_there))
    listed = re.findall(r"^\| `(\w+)` \| `pip install \"lens-emotion\[(\w+)\]\"`", texts[INSTALL], re.MULTILINE)
    assert {name for name, _ in listed} == extras() and all(name == line for name, line in listed)


def test_the_packages_address_stands_at_one_place(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/make_home.py"]
    done = subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for name in ("scripts", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=lambda _, names: [n for n in names if n == "images"])
    for name in ("pyproject.toml", "README.md", "CITATION.cff", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    moved = (tmp_path / "pyproject.toml").read_text().replace("OWNER", "somebody")
    (tmp_path / "pyproject.toml").write_text(moved)
    assert subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True).returncode == 1
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    said = [(tmp_path / name).read_text() for name in ("README.md", "CITATION.cff", "docs/install.md")]
    assert all("https://github.com/somebody/lens_emotion" in text and "OWNER" not in text for text in said)


def test_the_first_cell_of_colab() -> None:
    (cell,) = blocks(INSTALL, "ipython", "colab")
    install, *rest = cell.splitlines()
    assert install.startswith("%pip install -q ")
    asked = Requirement(shlex.split(install)[-1])
    assert asked.name == "lens-emotion" and asked.extras <= extras() and "git+https://" in str(asked.url)
    exec("\n".join(rest), {})


def test_the_bibtex_is_of_this_version() -> None:
    (entry,) = blocks(INSTALL, "bibtex")
    assert f"version = {{{le.__version__}}}" in entry and entry.count("{") == entry.count("}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        path = target.split("#")[0]
        if "://" in target or not path or path in {f"api/{room}.md" for room in site().api_rooms()}:
            continue
        assert (page.parent / path).exists(), f"{named(page)} links to {target}"


def test_pictures_are_light_and_described() -> None:
    for page in PAGES:
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            assert len(alt) > (10 if "gallery/" in target else 40), (
                f"{named(page)}: {target} has no words for those who cannot see it"
            )
            assert (page.parent / target).stat().st_size < 150_000


def commands() -> list[tuple[str, str]]:
    """Page and command line of every call of lens-emotion in a shell block."""
    lines = [(named(p), line) for p in PAGES for code in blocks(p, "bash") for line in code.splitlines()]
    return [
        (page, line[line.index("lens-emotion ") :]) for page, line in lines if re.search(r"(^|&& )lens-emotion ", line)
    ]


def test_commands_and_their_options_exist() -> None:
    assert len(commands()) >= 6
    for page, line in commands():
        command: click.Command = typer.main.get_command(app)
        words = shlex.split(line, comments=True)[1:]
        context = click.Context(command, info_name="lens-emotion")
        while (known := getattr(command, "commands", None)) is not None:
            assert words and words[0] in known, f"{page}: {line}"
            command = known[words.pop(0)]
            context = click.Context(command, parent=context)
        try:
            command.make_parser(context).parse_args(words)
        except Exception as error:
            pytest.fail(f"{page}: {line}: {error}")


def test_a_formula_that_has_no_mathml_stops_the_build() -> None:
    pytest.importorskip("latex2mathml")
    hooks = site()
    assert "<mfrac>" in hooks.on_page_content(r'<div class="arithmatex">\[\frac{1}{2}\]</div>')
    with pytest.raises(ValueError, match="no MathML"):
        hooks.on_page_content(r'<span class="arithmatex">\(\nosuch x\)</span>')
