"""The configuration of a run, its recipes and the families of models; loads no torch.

run_config   the keys, their types, bounds and help, and what contradicts what
loading      from YAML and dotted overrides, and back
recipes      partial configurations by name
families     the models that a configuration may name
values       the types of values, in words
yaml_file    YAML files, trusted or not
"""

from adding_problem.config.loading import COMMAND_LINE, flatten, load, of_values, to_yaml
from adding_problem.config.recipes import RECIPES
from adding_problem.config.run_config import (
    KEYS,
    MOST_EPOCHS,
    WITHOUT_EFFECT,
    Backend,
    CurriculumConfig,
    DatasetConfig,
    Device,
    ModelConfig,
    RunConfig,
    TrainConfig,
    ValidateConfig,
)
from adding_problem.config.yaml_file import read_yaml
from adding_problem.task.variants import Variant

__all__ = [
    "COMMAND_LINE",
    "KEYS",
    "MOST_EPOCHS",
    "RECIPES",
    "WITHOUT_EFFECT",
    "Backend",
    "CurriculumConfig",
    "DatasetConfig",
    "Device",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "ValidateConfig",
    "Variant",
    "flatten",
    "load",
    "of_values",
    "read_yaml",
    "to_yaml",
]
