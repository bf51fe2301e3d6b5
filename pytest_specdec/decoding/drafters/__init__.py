"""Types of drafters, one file each. The names below are what a package that adds a type needs."""

from .drafts import Drafts as Drafts
from .one_hot import OneHotDrafter as OneHotDrafter
from .protocol import DecodingStart as DecodingStart
from .protocol import Drafter as Drafter
from .protocol import DrafterType as DrafterType
from .protocol import DraftScores as DraftScores
from .protocol import Proposal as Proposal
from .protocol import Proposer as Proposer
from .protocol import TextBatch as TextBatch
from .score_arrays import ScoreArrays as ScoreArrays
