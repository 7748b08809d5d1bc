"""Every YAML is composed, built and trained for two batches: what is not run is a rumour."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from helpers.zoo import Zoo, shrink, signal_dims
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image

from lic_train.codec import Codec
from lic_train.codec.export import ready_copy, save_codec
from lic_train.codec.signal import MS_SSIM_MIN_SIDE
from lic_train.data.datamodule import ImageDataModule
from lic_train.experiment.build import Experiment, build
from lic_train.experiment.run import fit
from lic_train.utils.configs import config_dir

pytestmark = pytest.mark.filterwarnings("ignore")
CONF = Path(config_dir())
FILES = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for path in CONF.glob("*/*.yaml")
    if path.stem[0] != "_" and path.parent.name != "recipe"  # parts of others
)
EXPERIMENTS = [file.removeprefix("experiment/") for file in FILES if file.startswith("experiment/")]
CLIP_MODEL = "dvc"
GROUPS = {key for entry in OmegaConf.load(CONF / "train.yaml").defaults if entry != "_self_"
          for key in entry}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for i in range(4):
        coarse = Image.fromarray(noise.integers(0, 256, (8, 9, 3), dtype=np.uint8))
        coarse.resize((210 + i, 200)).save(folder / f"{i}.png")
    return folder


def config(choices: dict[str, str], run_dir: Path, photos: Path) -> DictConfig:
    """The config of ``python -m lic_train group=choice ...`` on one CPU, without W&B."""
    choices = {"logger": "csv"} | choices
    overrides = [f"{'' if g in GROUPS else '+'}{g}={choice}" for g, choice in choices.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [*overrides, f"run_dir={run_dir}"], return_hydra_config=True)
    HydraConfig.instance().set_config(copy.deepcopy(cfg))
    with open_dict(cfg):
        del cfg["hydra"]
    cfg.trainer.accelerator, cfg.trainer.devices = "cpu", 1
    if "root" in cfg.data and cfg.data.root is None and not has_samples(cfg, photos):
        cfg.data.root = str(photos)
    if any(entry.run is None for entry in cfg.init_from.values()):  # there is no earlier run here
        cfg.init_from = {}
    return cfg


def small(cfg: DictConfig) -> DictConfig:
    shrink(cfg.model)
    crop = 192 if cfg.loss.metric == "ms_ssim" else 64
    cfg.data.crop_size = cfg.data.eval_crop = crop
    cfg.data.num_workers = 0
    if crop > MS_SSIM_MIN_SIDE:
        cfg.data.eval.longest_side = None
    return cfg


def has_samples(cfg: DictConfig, root: Path) -> bool:
    """Whether there are photographs for data that are video files, whose samples do without."""
    return ".clips.clips" in cfg.data.train._target_ and root.name.startswith("photos")


def is_of_clips(file: str) -> bool:
    """Whether a config gives clips, which image codecs do not take, or its codec takes them."""
    group = file.split("/")[0]
    if group in ("data", "eval_data"):
        return "frames:" in (CONF / f"{file}.yaml").read_text()
    return group == "model" and signal_dims(OmegaConf.load(CONF / f"{file}.yaml")) == 5


def root_for(file: str, photos: Path, trees: Path) -> Path:
    """A folder for the data that an experiment names, where it wants one."""
    septuplets = "data: vimeo_septuplets" in (CONF / f"{file}.yaml").read_text()
    return trees / "vimeo_septuplets" if septuplets else photos


def built(cfg: DictConfig) -> Experiment:
    experiment = build(cfg)
    assert isinstance(experiment.module.codec, Codec)
    assert isinstance(experiment.data, ImageDataModule)
    return experiment


def test_the_groups_of_the_defaults_list_are_all_there_is() -> None:
    assert {file.partition("/")[0] for file in FILES} <= GROUPS
    assert len(FILES) >= 20


@pytest.mark.parametrize("file", FILES)
def test_every_yaml_trains(file: str, tmp_path: Path, photos: Path, trees: Path) -> None:
    group, stem = file.split("/")
    choices = {"debug": "fast", group: stem}
    if is_of_clips(file):
        choices = {"data": "vimeo_septuplets", "model": CLIP_MODEL, **choices}
    root = trees / choices["data"] if "data" in choices else root_for(file, photos, trees)
    cfg = small(config(choices, tmp_path, root))
    if group == "eval_data" and "eval_root" in cfg.data:
        cfg.data.eval_root = str(trees / stem)
    experiment = built(cfg)
    if "data" in group:
        assert len(experiment.data.signals()) == 1
        assert next(iter(experiment.data.signals())).pixels.shape[-3] == 3
    x = next(iter(experiment.data.train_dataloader())).x
    assert x.ndim == experiment.module.codec.signal_dims
    before = copy.deepcopy(experiment.module.codec.state_dict())
    last = tmp_path / "checkpoints" / "last.ckpt"
    try:
        fit(experiment, last)
    finally:
        wandb.finish()
    assert experiment.trainer.global_step == 2
    after = experiment.module.codec.state_dict()
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved and all(after[name].isfinite().all() for name in moved)
    if "checkpoint" in cfg.callbacks:  # some files of this group are parts of the default
        assert torch.load(last, weights_only=True)["global_step"] == 2
    assert (tmp_path / "logs" / "version_0" / "metrics.csv").is_file()


@pytest.mark.parametrize("stem", EXPERIMENTS)
def test_every_experiment_exists_at_its_true_size(
    stem: str, tmp_path: Path, photos: Path, trees: Path
) -> None:
    cfg = config({"experiment": stem}, tmp_path, root_for(f"experiment/{stem}", photos, trees))
    experiment = built(cfg)
    assert experiment.trainer.max_steps == cfg.trainer.max_steps > 2
    experiment.module.configure_optimizers()
    # Where model widths are, they are the YAML's.
    shapes = {tuple(p.shape) for p in experiment.module.codec.parameters()}
    nets = [cfg.model, *(node for node in cfg.model.values() if isinstance(node, DictConfig))]
    widths = {net[key] for net in nets for key in ("N", "M", "width") if key in net}
    assert any(width in shape for width in widths for shape in shapes)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("chain/")])
def test_the_stages_of_a_chain_take_what_they_are_given(file: str) -> None:
    chain = OmegaConf.load(CONF / f"{file}.yaml")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for stage in chain.stages[1:]:
            given = compose("train", [f"experiment={stage}", f"{chain.start}=RUN"]).init_from
            assert {entry.run for entry in given.values()} == {"RUN"}
        assert not compose("train", [f"experiment={chain.stages[0]}"]).init_from


def test_a_part_may_start_from_another(tmp_path: Path, photos: Path, zoo: Zoo) -> None:
    earlier = zoo.build(CLIP_MODEL, 1)
    save_codec(tmp_path / "run", ready_copy(earlier), zoo.config(CLIP_MODEL))
    cfg = small(config({"model": CLIP_MODEL, "data": "clips"}, tmp_path, photos))
    entry = {"part": "residual.g_s", "source": "intra.g_s", "run": str(tmp_path / "run")}
    cfg.init_from = {"residual_synthesis": entry}
    codec = built(cfg).module.codec
    for name, p in codec.part("residual.g_s").named_parameters():
        assert torch.equal(p, earlier.part("intra.g_s").get_parameter(name))


@pytest.mark.parametrize("stem", EXPERIMENTS)
def test_every_experiment_says_how_to_run_it(stem: str) -> None:
    header = (CONF / "experiment" / f"{stem}.yaml").read_text().split("defaults:")[0]
    command = rf"^# +python -m lic_train( .*)? experiment={re.escape(stem)}( .*)?$"
    assert re.search(command, header, re.MULTILINE), header


@pytest.mark.parametrize("file", FILES)
def test_every_yaml_says_what_it_is(file: str) -> None:
    lines = (CONF / f"{file}.yaml").read_text().splitlines()
    first = next(line for line in lines if line != "# @package _global_")
    assert re.match(r"# \S", first)


def test_nobody_types_a_setting_twice(tmp_path: Path, photos: Path) -> None:
    """What several nodes need comes from one key."""
    choices = {"data": "image_folder", "scheduler": "cosine", "loss": "ms_ssim"}
    cfg = config(choices, tmp_path, photos)
    cfg.lmbda, cfg.seed, cfg.trainer.max_steps, cfg.data.crop_size = 7.5, 12, 345, 199
    assert cfg.loss.lmbda == 7.5 and cfg.data.seed == 12 and cfg.scheduler.steps == 345
    assert cfg.data.crop.size == 199 and cfg.data.train.root == cfg.data.eval.root == str(photos)
    assert cfg.name == "edic" and cfg.callbacks.checkpoint.dirpath == f"{tmp_path}/checkpoints"
