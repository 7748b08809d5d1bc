"""Which file may import which, and what every file, class and config says of itself."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lic_train"
CONF = ROOT / "conf"
FILES = sorted(PACKAGE.rglob("*.py"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
CLASSES = {
    stem: OmegaConf.load(CONF / "model" / f"{stem}.yaml")._target_.rpartition(".")[2]
    for stem in MODELS
}
LIBRARIES = {"compressai"}  # whose name is also that of the model that adapts it
every_file = pytest.mark.parametrize(
    "path", FILES, ids=[str(p.relative_to(PACKAGE).with_suffix("")) for p in FILES]
)

# The rooms from top to bottom. Each may import itself, the version of the package, and the rooms
# named in its row, all of which stand below it. A new room wants a row: say what it stands on.
ROOMS: dict[str, set[str]] = {
    "cli": {
        "__main__",
        *("doctor", "sweep", "experiment", "report", "evaluation", "figures", "anchors"),
        *("rd", "data", "codec", "runs", "utils", "errors"),
    },
    "__main__": {"sweep", "experiment", "runs", "utils"},
    "doctor": {"experiment", "callbacks", "entropy", "codec", "utils", "errors"},
    "sweep": {"experiment", "report", "figures", "rd", "runs", "utils", "errors"},
    "experiment": {
        *("callbacks", "evaluation", "modules", "loggers", "rd", "codec", "runs", "utils"),
        *("report", "errors"),
    },
    "report": {"evaluation", "figures", "rd", "runs", "utils", "errors"},
    "callbacks": {
        *("evaluation", "figures", "loggers", "rd", "codec", "utils", "errors"),
    },
    "evaluation": {"entropy", "figures", "anchors", "rd", "codec", "utils", "errors"},
    "modules": {"training", "codec", "utils", "errors"},
    "codecs": {"layers", "entropy", "codec", "errors"},
    "layers": {"errors"},
    "entropy": {"errors"},
    "figures": {"rd", "runs", "utils", "errors"},
    "anchors": {"rd", "codec", "utils", "errors"},
    "loggers": {"rd", "utils", "errors"},
    "training": {"codec", "errors"},
    "rd": {"codec", "utils", "errors"},
    "data": {"utils", "errors"},
    "codec": {"utils", "errors"},
    "runs": {"utils", "errors"},
    "utils": {"errors"},
    "errors": set(),
}
INNER = {"codecs", "layers", "entropy"}  # rooms inside modules/
# Who may know these libraries; to everybody else a codec is a torch module and a config a call.
FRAMEWORKS = {
    "hydra": {"__main__", "experiment", "codec", "utils", "sweep"},
    "omegaconf": {"__main__", "experiment", "codec", "utils", "sweep"},
    "pytorch_lightning": {"modules", "data", "callbacks", "loggers", "experiment"},
    "wandb": {"loggers", "doctor", "experiment"},
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def room(parts: tuple[str, ...]) -> str:
    """Room of a module below the package, e.g. ``("modules", "layers", "padding")``."""
    if parts[:1] == ("modules",) and parts[1:2] and parts[1] in INNER:
        return parts[1]
    return parts[0] if parts else "lic_train"


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return room(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules the file imports, wherever in the file it does."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide which room they enter"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                where = ROOT.joinpath(*full.split("."))
                yield full if where.is_dir() or where.with_suffix(".py").is_file() else node.module


def code_words(path: Path) -> Iterator[str]:
    """Identifiers and string constants, docstrings excepted."""
    parsed = tree(path)
    docstrings = set()
    for node in ast.walk(parsed):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                docstrings.add(id(statement.value))
    for node in ast.walk(parsed):
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(value := getattr(node, field, None), str):
                yield value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.value


@every_file
def test_arrows(path: Path) -> None:
    here = room_of(path)
    assert here in {*ROOMS, "lic_train"}, f"{here} has no row in ROOMS: say what it may import"
    for name in imports(path):
        if name.split(".")[0] == "lic_train":
            there = room(tuple(name.split(".")[1:]))
            allowed = {here, "lic_train", *ROOMS.get(here, ())}
            assert there in allowed, f"{here} imports {there}"


@every_file
def test_frameworks_stay_where_they_are_known(path: Path) -> None:
    for name in imports(path):
        library = name.split(".")[0]
        assert room_of(path) in FRAMEWORKS.get(library, {room_of(path)}), f"imports {library}"


def test_rooms_stand_on_what_is_below_them() -> None:
    """One row per room, and no arrow up, so no circle either."""
    assert set(ROOMS) == {room_of(path) for path in FILES} - {"lic_train"}
    order = list(ROOMS)
    for number, (name, allowed) in enumerate(ROOMS.items()):
        assert allowed <= set(order[number + 1 :]), f"{name} is to import what is above it"


def test_every_arrow_is_used() -> None:
    """A row that allows more than its room imports says the wrong thing about the room."""
    used: dict[str, set[str]] = {name: set() for name in ROOMS}
    for path in FILES:
        for name in imports(path):
            if name.split(".")[0] == "lic_train" and room_of(path) in used:
                used[room_of(path)].add(room(tuple(name.split(".")[1:])))
    for name, allowed in ROOMS.items():
        assert allowed <= used[name], f"{name} imports none of {allowed - used[name]}"


def test_no_file_lies_beside_the_rooms() -> None:
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "py.typed"}
    assert {path.name for path in (PACKAGE / "modules").glob("*.py")} == {
        *("__init__.py", "codec_module.py"),
    }


def test_the_entropy_room_has_one_door() -> None:
    """It imports itself and `errors`, whatever a row may say."""
    assert ROOMS["entropy"] == {"errors"}


@every_file
def test_a_file_says_its_idea_in_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(tree(path))
    assert docstring, "no docstring"
    first, *others = docstring.splitlines()
    assert first.endswith(".") and len(first.split()) >= 3
    assert not others or not others[0], "the first line is all of the first paragraph"


@every_file
def test_whatever_is_public_has_a_docstring(path: Path) -> None:
    """Its own, or that of the method it overrides."""
    missing = []
    for node in tree(path).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            missing.append(node.name)
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                if not ast.get_docstring(method) and not _inherited(path, node.name, method.name):
                    missing.append(f"{node.name}.{method.name}")
    assert missing == []


def _inherited(path: Path, class_name: str, method: str) -> bool:
    """Whether the class is a protocol, which only lists names, or overrides a documented method."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    bases = getattr(importlib.import_module(name), class_name).__mro__[1:]
    if Protocol in bases:
        return True
    return any(inspect.getdoc(getattr(base, method)) for base in bases if hasattr(base, method))


# --- the mirror rule


@pytest.mark.parametrize("stem", MODELS)
def test_a_model_is_one_yaml_one_file_one_experiment(stem: str) -> None:
    config = OmegaConf.load(CONF / "model" / f"{stem}.yaml")
    module, _, name = config._target_.rpartition(".")
    assert module == f"lic_train.modules.codecs.{stem}"
    assert (CONF / "model" / f"{stem}.yaml").read_text().startswith("# ")
    assert list((CONF / "experiment").glob(f"{stem}*.yaml"))
    docstring = getattr(importlib.import_module(module), name).__doc__
    assert "arXiv" in docstring and "::" in docstring  # the paper and a flow diagram


@every_file
def test_no_model_is_known_by_name(path: Path) -> None:
    """Outside its own file, and those of models that inherit from it: no registry, no ``if kind
    ==``."""
    heirs = {
        PACKAGE / "modules" / "codecs" / f"{stem}.py": {
            base.__name__
            for base in getattr(
                importlib.import_module(f"lic_train.modules.codecs.{stem}"), name
            ).__mro__
        }
        for stem, name in CLASSES.items()
    }
    words = list(code_words(path))
    for stem, name in CLASSES.items():
        if name in heirs.get(path, ()):
            continue
        known = name if stem in LIBRARIES else f"{stem}|{name}"
        pattern = re.compile(rf"(?<![A-Za-z0-9])({known})(?![A-Za-z0-9])", re.IGNORECASE)
        assert [word for word in words if pattern.search(word)] == []


def test_tests_mirror_the_rooms_and_share_helpers_only() -> None:
    """A folder of tests is a room, or holds helpers; no test file imports another."""
    tests = ROOT / "tests"
    for folder in (path for path in tests.rglob("*") if path.is_dir() and path.name[0] not in "._"):
        where = folder.relative_to(tests)
        assert where == Path("helpers") or (PACKAGE / where).is_dir(), where
    for path in tests.rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(("test_", "conftest")), f"{path.name} imports {name}"


def test_these_tests_can_see() -> None:
    """The readers above find what is to be found."""
    assert len(FILES) > 40 and len(MODELS) >= 5
    edic = PACKAGE / "modules" / "codecs" / "edic.py"
    assert room_of(edic) == "codecs" and room_of(PACKAGE / "__init__.py") == "lic_train"
    assert room_of(PACKAGE / "modules" / "codec_module.py") == "modules"
    assert {"torch.nn", "torch", "lic_train.modules.layers.transforms"} >= {
        name for name in imports(edic) if name.endswith(("torch", "nn", "transforms"))
    }
    assert "lic_train.modules.codecs.base.hyperprior" in set(imports(edic))
    assert {"EDIC", "gmm_k", "yz", "abs"} <= set(code_words(edic))
    assert not any("Unified End-to-End" in word for word in code_words(edic))
    # A late import inside a function counts as well.
    assert "lic_train.experiment.run" in set(imports(PACKAGE / "__main__.py"))
