"""What the dependencies promise, and that a wheel works from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.zoo import REPOSITORY

from lic_train import __version__

SCRIPTS = sorted((REPOSITORY / "scripts").rglob("*.py"))


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout as pip would, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), cwd=REPOSITORY)
    (file,) = folder.glob("*.whl")
    return file


def test_every_script_finds_what_it_imports() -> None:
    # In a process of its own: some of what they import sets up what others would find set up.
    check = "import runpy, sys; sys.path.insert(0, sys.argv[1]); "
    check += "[runpy.run_path(p, run_name='it')['main'] for p in sys.argv[2:]]"
    python("-c", check, str(REPOSITORY / "scripts"), *map(str, SCRIPTS))


def test_there_is_one_version(wheel: Path) -> None:
    """That of the package: the build reads it, and who cites or reads the changes finds it."""
    assert wheel.name.split("-")[1] == __version__
    assert f"\nversion: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_libraries_we_train_with_import_together() -> None:
    # Their requirements contradict each other in places that pip does not see (pyarrow, numpy).
    python("-W", "error::ImportWarning", "-c", "import datasets, wandb, compressai")


def test_the_wheel_holds_package_and_configs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for root, below in ((REPOSITORY / "lic_train", "*.py"), (REPOSITORY / "conf", "*.yaml")):
        prefix = "lic_train" if root.name == "lic_train" else "lic_train/conf"
        files = {f"{prefix}/{path.relative_to(root).as_posix()}" for path in root.rglob(below)}
        assert files and not files - names
    assert "lic_train/conf/train.yaml" in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"lic_train"}
    assert not [name for name in names if "__pycache__" in name or "/test" in name]
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert b"lic = lic_train.cli._main:main" in zipfile.ZipFile(wheel).read(entry)


def test_an_unpacked_wheel_works_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = python(
        "-c", "import lic_train; print(lic_train.__file__)", cwd=elsewhere, env=environment
    )
    assert done.stdout.strip() == str(site / "lic_train" / "__init__.py")
    command = ("-m", "lic_train", "experiment=edic_gmm", "lmbda=0.5", "--cfg", "job")
    done = python(*command, cwd=elsewhere, env=environment)
    assert "lmbda: 0.5" in done.stdout and "lic_train.modules.codecs.edic.EDIC" in done.stdout
    python("-m", "lic_train.cli._main", "--help", cwd=elsewhere, env=environment)
    assert not list(elsewhere.iterdir())
