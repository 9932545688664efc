"""What the project promises as a whole."""

import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_datasets_does_not_hide_the_library_of_that_name(tmp_path: Path) -> None:
    """With a package `datasets` installed, importing it from the project root finds that one."""
    assert not (ROOT / "datasets.py").exists()
    assert not list((ROOT / "datasets").glob("*.py"))
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("the_library = True")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; datasets.the_library"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_pinned_versions_are_installed() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, pinned = line.partition("==")
        if name in ("torch", "torchvision", "torchaudio", "av", "decord", "pytorchvideo"):
            assert version(name).split("+")[0] == pinned


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", ["slowfast", "x3d", "csn", "audio_visual_slowfast"])
def test_what_we_count_on_in_pytorchvideo_imports(module: str) -> None:
    # pytorchvideo.transforms cannot be imported beside a current torchvision; its models can.
    assert importlib.import_module(f"pytorchvideo.models.{module}")


@pytest.mark.long
def test_spinning_threads_are_off_before_torch_is_loaded() -> None:
    code = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Finder())
from avmix import build_model
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "PASSIVE\n"


@pytest.mark.long
def test_nothing_runs_when_the_scripts_are_imported() -> None:
    code = "import sys; sys.argv = ['x', '--nonsense']; import train, eval"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_trees_of_the_pages_are_the_tree(page: str) -> None:
    text = (ROOT / page).read_text()
    tree = re.search(r"```text\n((?:pyproject.toml|train.py) .*?)```", text, re.DOTALL)
    assert tree
    folder = ""
    for line in tree[1].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            assert (ROOT / name).exists(), name
        else:
            assert (ROOT / folder / name).exists(), folder + name


def test_no_file_names_a_folder_of_one_machine() -> None:
    folders = "|".join(("home", "root", "Users", "work", "mnt"))
    names = re.compile(rf"(?<![\w.~<}}/-])/(?:{folders})/\w")
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    kinds = (".py", ".md", ".toml", ".yaml", ".json", ".txt", "Makefile", "run")
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in listed
        if path.endswith(kinds)
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if names.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_code_of_the_readme_runs(toy_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    (toy_set.parent / "data").mkdir(exist_ok=True)
    if not (toy_set.parent / "data/toy").exists():
        (toy_set.parent / "data/toy").symlink_to(toy_set)
    monkeypatch.chdir(toy_set.parent)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_numbers_of_the_readme_are_the_measured_ones() -> None:
    subprocess.run([sys.executable, "benchmarks/paste.py", "--check"], cwd=ROOT, check=True)


def test_make_test_is_what_the_readme_says() -> None:
    assert "make demo" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_modules_are_short_and_each_file_name_is_one_module() -> None:
    """A file that grows beyond this holds a second idea; a name that occurs once is found."""
    files = sorted((ROOT / "avmix").rglob("*.py"))
    assert len(files) > 200
    lengths = {file: len(file.read_text().splitlines()) for file in files}
    too_long = {str(file.relative_to(ROOT)): n for file, n in lengths.items() if n > 400}
    assert not too_long, f"cut along its ideas what has over 400 lines: {too_long}"
    names = Counter(file.name for file in files if file.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]


def test_only_avmix_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["setuptools"]["packages"]["find"]["include"] == ["avmix*"]


def pages() -> list[Path]:
    listed = subprocess.check_output(["git", "ls-files", "-z", "*.md"], cwd=ROOT, text=True)
    return [ROOT / name for name in listed.split("\0") if name]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_what_is_said_of_the_version_and_the_licence_is_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in cited
    assert f"\nlicense: {project['license']}\n" in cited


def test_the_commands_for_contributors_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = re.findall(r"^make (\w+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert said == ["env", "lint", "test", "long"]
    assert {*said} <= {*targets}


def test_the_image_installs_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "Dockerfile").read_text()
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}
    (copied,) = re.findall(r"^COPY (pyproject.*) \./$", text, re.MULTILINE)
    assert all((ROOT / name).is_file() for name in copied.split())
