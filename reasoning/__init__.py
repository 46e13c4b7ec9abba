"""branchwise: better answers from a language model by exploring many reasoning paths, cheaply.

import branchwise as bw

backend = bw.load("Qwen2.5-Coder-0.5B-Instruct")  # or bw.connect("http://localhost:8000")
result = bw.solve_sync("What is 6 times 7?", backend, strategy=bw.PathConsistency(paths=8))
print(result.answer, result.confidence, result.usage.sampled)

Backends and their settings are in `branchwise.backends`, data sets and comparisons in `branchwise.evaluation`.
"""

from importlib.metadata import version

from branchwise.backends.base import Backend, Capabilities
from branchwise.backends.models.load import load
from branchwise.backends.openai.connect import connect
from branchwise.core.answer import Answer
from branchwise.core.budget import Budget
from branchwise.core.errors import (
    BackendError,
    BranchwiseError,
    BudgetError,
    CallError,
    ConfigError,
    ContextLengthError,
    ContinuationError,
    MissingExtraError,
    ModelError,
    UnsupportedError,
)
from branchwise.core.messages import Message, Messages, ToolCall
from branchwise.core.path import Path, StopReason
from branchwise.core.result import Branch, Outcome, Result, Vote
from branchwise.core.sampling import Sampling
from branchwise.core.tree import NodeState, Tree, TreeNode
from branchwise.core.usage import DrafterUsage, Usage
from branchwise.driver import (
    BranchEnded,
    BranchGrew,
    BranchStarted,
    Observer,
    QuestionEnded,
    QuestionStarted,
    RequestEnded,
    RequestStarted,
    RunEnded,
    RunEvent,
    RunStarted,
    Standing,
    Stop,
    Verifier,
    solve,
    solve_batch,
    solve_sync,
    together,
)
from branchwise.prompts.grading import equivalent, equivalent_async, grade, grade_async
from branchwise.prompts.library import by_meaning, task
from branchwise.prompts.task import Exemplar, Task
from branchwise.prompts.thinking import Thinking
from branchwise.search import DVTS, MCTS, Beam, BestFirst, BestOfN, ParticleFilter, Rebase, ToTBFS, ToTDFS
from branchwise.strategies import (
    Action,
    BatchStrategy,
    Cancel,
    Decision,
    Event,
    Extend,
    Failed,
    Finished,
    PerQuestion,
    Progress,
    Root,
    Rooted,
    Samples,
    Score,
    Scored,
    Strategy,
    Tally,
    Verified,
    Verify,
)
from branchwise.strategies.judging import Judge, SemanticConsistency, UniversalSelfConsistency
from branchwise.strategies.voting import (
    AdaptiveConsistency,
    AdaptivePathConsistency,
    BlendASC,
    DeepConf,
    DeepConfOnline,
    EarlyStopping,
    Greedy,
    PathConsistency,
    PrefixConsistency,
    SelfConsistency,
    WeightedVote,
)

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
    "BatchStrategy",
    "Beam",
    "BestFirst",
    "BestOfN",
    "BlendASC",
    "Branch",
    "BranchEnded",
    "BranchGrew",
    "BranchStarted",
    "BranchwiseError",
    "Budget",
    "BudgetError",
    "CallError",
    "Cancel",
    "Capabilities",
    "ConfigError",
    "ContextLengthError",
    "ContinuationError",
    "Decision",
    "DeepConf",
    "DeepConfOnline",
    "DrafterUsage",
    "EarlyStopping",
    "Event",
    "Exemplar",
    "Extend",
    "Failed",
    "Finished",
    "Greedy",
    "Judge",
    "Message",
    "Messages",
    "MissingExtraError",
    "ModelError",
    "NodeState",
    "Observer",
    "Outcome",
    "ParticleFilter",
    "Path",
    "PathConsistency",
    "PerQuestion",
    "PrefixConsistency",
    "Progress",
    "QuestionEnded",
    "QuestionStarted",
    "Rebase",
    "RequestEnded",
    "RequestStarted",
    "Result",
    "Root",
    "Rooted",
    "RunEnded",
    "RunEvent",
    "RunStarted",
    "Samples",
    "Sampling",
    "Score",
    "Scored",
    "SelfConsistency",
    "SemanticConsistency",
    "Standing",
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
    "UniversalSelfConsistency",
    "UnsupportedError",
    "Usage",
    "Verified",
    "Verifier",
    "Verify",
    "Vote",
    "WeightedVote",
    "__version__",
    "by_meaning",
    "connect",
    "equivalent",
    "equivalent_async",
    "grade",
    "grade_async",
    "load",
    "solve",
    "solve_batch",
    "solve_sync",
    "task",
    "together",
]
