"""Tree search over reasoning steps: strategies that choose which paths to continue by a value of every step."""

from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS

__all__ = ["DVTS", "MCTS", "Beam", "BestFirst", "BestOfN", "ParticleFilter", "Rebase", "ToTBFS", "ToTDFS"]
