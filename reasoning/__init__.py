"""branchwise: better answers from a language model by exploring many reasoning paths, cheaply.

import branchwise as bw

backend = bw.load("Qwen2.5-Coder-0.5B-Instruct")
result = bw.solve_sync("What is 6 times 7?", backend, strategy=bw.PathConsistency(paths=8))
print(result.answer, result.confidence, result.usage.sampled)
"""

from importlib.metadata import version

from branchwise.backends.base import Backend, Capabilities
from branchwise.backends.models.load import load
from branchwise.core.answer import Answer
from branchwise.core.budget import Budget
from branchwise.core.errors import (
    BackendError,
    BranchwiseError,
    BudgetError,
    CallError,
    ConfigError,
    MissingExtraError,
    ModelError,
)
from branchwise.core.messages import Message, Messages, ToolCall
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Branch, Outcome, Result, Vote
from branchwise.core.sampling import Sampling
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.core.usage import Usage
from branchwise.driver import RunEvent, Stop, solve, solve_batch, solve_sync
from branchwise.prompts.library import task
from branchwise.prompts.task import Exemplar, Task
from branchwise.prompts.thinking import Thinking
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.strategies.actions import (
    Action,
    Cancel,
    Event,
    Extend,
    Failed,
    Finished,
    Progress,
    Root,
    Rooted,
    Score,
    Scored,
    Verified,
    Verify,
)
from branchwise.strategies.strategy import Decision, Strategy, Tally
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

__version__ = version("branchwise")

__all__ = [
    "DVTS",
    "MCTS",
    "Action",
    "AdaptiveConsistency",
    "AdaptivePathConsistency",
    "Answer",
    "Backend",
    "BackendError",
    "Beam",
    "BestFirst",
    "BestOfN",
    "BlendASC",
    "Branch",
    "BranchwiseError",
    "Budget",
    "BudgetError",
    "CallError",
    "Cancel",
    "Capabilities",
    "ConfigError",
    "Decision",
    "DeepConf",
    "DeepConfOnline",
    "EarlyStopping",
    "Event",
    "Exemplar",
    "Extend",
    "Failed",
    "Finished",
    "Greedy",
    "Message",
    "Messages",
    "MissingExtraError",
    "ModelError",
    "NodeState",
    "Outcome",
    "ParticleFilter",
    "Path",
    "PathConsistency",
    "PrefixConsistency",
    "Progress",
    "Rebase",
    "Result",
    "Root",
    "Rooted",
    "RunEvent",
    "Sampling",
    "Score",
    "Scored",
    "SelfConsistency",
    "Stop",
    "StopReason",
    "Strategy",
    "Tally",
    "Task",
    "Thinking",
    "ToTBFS",
    "ToTDFS",
    "ToolCall",
    "Tree",
    "TreeNode",
    "Usage",
    "Verified",
    "Verify",
    "Vote",
    "WeightedVote",
    "__version__",
    "load",
    "solve",
    "solve_batch",
    "solve_sync",
    "task",
]
