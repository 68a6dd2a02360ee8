"""Which config decides on each layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ..config.low_bit_config import LowBitConfig
from .convertible import supported
from .rule_matching import deciding_rules, titled
from .rules import (
    Match,
    Rule,
    are_rules,
    as_rules,
)

#: What `quantize_` takes: one config for all layers, or rules.
Configs = LowBitConfig | Sequence[Rule | tuple[Match, LowBitConfig | None]]


@dataclass(frozen=True)
class Decision:
    """What a layer is to become.

    Args:
        config: None for a layer that stays float.
        rule: the rule that decided, as tables show it; empty if none matches, None if there are no rules.
        is_named: whether that rule names the layer, so that it counts as neither first nor last.
    """

    config: LowBitConfig | None
    rule: str | None = None
    is_named: bool = False


def rules_or_config(config: object) -> LowBitConfig | list[Rule]:
    """Return the config, or the list of rules; TypeError or ValueError for anything else."""
    if isinstance(config, LowBitConfig):
        return config
    if not are_rules(config):
        raise TypeError(
            f"config must be a LowBitConfig such as LowBitConfig(1, 2), got {type(config).__name__}; "
            "or a list of rules such as [('*', config), ('layer3.*', None)]; bitorch.load_rules reads a file of them"
        )
    rules = as_rules(config)
    for index, rule in enumerate(rules):
        if rule.config is not None and not isinstance(rule.config, LowBitConfig):
            raise TypeError(
                f"{titled(rules, index)} must give a LowBitConfig such as LowBitConfig(4, 4), or None, "
                f"got {rule.config!r}"
            )
    return rules


def decisions(
    config: LowBitConfig | list[Rule], model: nn.Module, layers: Mapping[str, nn.Module], reasons: Mapping[str, str]
) -> dict[str, Decision]:
    """Return the decision on each of the layers that can be converted.

    Args:
        layers: those layers, by name.
        reasons: why the others stay float, by name; of `reasons_to_stay_float`.

    Raises:
        ValueError: a rule that decides no layer.
    """
    if isinstance(config, LowBitConfig):
        return {name: Decision(config) for name in layers}
    others = {name: reason for name, reason in reasons.items() if reason}
    remedy = f"supported are {supported()}; change the match, or leave the rule out"
    indices = deciding_rules(config, model, layers, others, remedy)
    return {name: _decision(config, indices[name]) if name in indices else Decision(None, "") for name in layers}


def _decision(rules: Sequence[Rule], index: int) -> Decision:
    rule = rules[index]
    assert rule.config is None or isinstance(rule.config, LowBitConfig)  # `rules_or_config` has looked
    return Decision(rule.config, f"{index + 1}: {rule}", rule.is_name)


def check_filter(decided: Mapping[str, Decision], chosen: Collection[str]) -> None:
    """Raise a ValueError if filter_fn leaves out every layer that a rule decides on."""
    left = {decision.rule for name, decision in decided.items() if name in chosen}
    for decision in decided.values():
        if decision.rule and decision.rule not in left:
            raise ValueError(
                f"filter_fn leaves out every layer of rule {decision.rule}; widen it, or leave the rule out"
            )
