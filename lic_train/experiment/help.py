"""``python -m lic_train --help``: how a run is started, and what each experiment is."""

from __future__ import annotations

from pathlib import Path

from lic_train.utils.configs import config_dir

WIDTH = 96
USAGE = """Train a learned image or video codec and judge it by the files that it writes.

  python -m lic_train experiment=NAME                  (or: lic train experiment=NAME)
  python -m lic_train experiment=NAME lmbda=0.0018 data=image_folder data.root=/photos
  python -m lic_train -m experiment=NAME lmbda=0.0018,0.0067,0.013    a sweep: one run each
  python -m lic_train chain=NAME                       experiments one after the other

  --cfg job        every setting, with its value        --config-dir DIR   more configs, of yours
  --hydra-help     Hydra's own options                  lic doctor ...     look before a long run

The same line with hydra.run.dir=FOLDER goes on with the run in FOLDER.
"""


def asked(arguments: list[str]) -> bool:
    """Whether a command line wants this page."""
    return "--help" in arguments or "-h" in arguments


def page() -> str:
    """Usage, the experiments with a line each, and the choices of every other group."""
    root = Path(config_dir())
    stems = sorted(path.stem for path in (root / "experiment").glob("*.yaml"))
    width = max(map(len, stems))
    lines = [USAGE, "experiment="]
    for stem in stems:
        said = about(root / "experiment" / f"{stem}.yaml")
        room = WIDTH - width - 4
        lines.append(f"  {stem:{width}}  {said if len(said) <= room else said[: room - 3] + '...'}")
    lines.append("\nThe other groups; any key is set as model.N=128:")
    for group in sorted(path for path in root.iterdir() if path.is_dir()):
        names = sorted(path.stem for path in group.glob("*.yaml") if path.stem[0] != "_")
        if group.name not in ("experiment", "recipe", "hydra") and names:
            lines.append(f"  {group.name + '=':{12}} {', '.join(names)}")
    return "\n".join(lines)


def about(path: Path) -> str:
    """The first sentence of the comment that a config begins with."""
    words: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("#") or line.startswith("#   "):
            if words:
                break
            continue
        if "@package" not in line:
            words += line.lstrip("# ").split()
    for i, word in enumerate(words):
        if word.endswith(".") and not word.endswith(("e.g.", "i.e.")):
            return " ".join(words[: i + 1]).rstrip(".")
    return " ".join(words)
