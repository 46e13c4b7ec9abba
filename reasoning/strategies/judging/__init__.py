"""Strategies for answers that no vote can count: the model compares, rates or groups the replies in plain chat."""

from branchwise.strategies.judging.judge import Judge
from branchwise.strategies.judging.semantic_consistency import SemanticConsistency
from branchwise.strategies.judging.universal_self_consistency import UniversalSelfConsistency

__all__ = ["Judge", "SemanticConsistency", "UniversalSelfConsistency"]
