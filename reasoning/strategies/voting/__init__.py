"""Voting strategies: each samples paths of a question and votes over their answers."""

from branchwise.strategies.voting.adaptive_consistency import AdaptiveConsistency
from branchwise.strategies.voting.adaptive_path_consistency import AdaptivePathConsistency
from branchwise.strategies.voting.blend_asc import BlendASC
from branchwise.strategies.voting.deepconf import DeepConf
from branchwise.strategies.voting.deepconf_online import DeepConfOnline
from branchwise.strategies.voting.early_stopping import EarlyStopping
from branchwise.strategies.voting.greedy import Greedy
from branchwise.strategies.voting.path_consistency import PathConsistency
from branchwise.strategies.voting.prefix_consistency import PrefixConsistency
from branchwise.strategies.voting.self_consistency import SelfConsistency
from branchwise.strategies.voting.weighted_vote import WeightedVote

__all__ = [
    "AdaptiveConsistency",
    "AdaptivePathConsistency",
    "BlendASC",
    "DeepConf",
    "DeepConfOnline",
    "EarlyStopping",
    "Greedy",
    "PathConsistency",
    "PrefixConsistency",
    "SelfConsistency",
    "WeightedVote",
]
