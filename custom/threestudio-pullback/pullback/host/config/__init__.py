"""YAML and the command line into dataclasses: threestudio's schema, resolvers and schedules."""

from .former import replace_part
from .parse import check_parts, dump_config, load_config, override, read_yaml, split_override
from .schedules import C, C_max, config_to_primitive
from .schema import ExperimentConfig, check_type, config_path, parse_structured

__all__ = [
    "C",
    "C_max",
    "ExperimentConfig",
    "check_parts",
    "check_type",
    "config_path",
    "config_to_primitive",
    "dump_config",
    "load_config",
    "override",
    "parse_structured",
    "read_yaml",
    "replace_part",
    "split_override",
]
