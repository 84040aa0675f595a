"""Policy as data: declared facts, dated rule packs, tables with source and date, and the engine over them."""

from .engine import Determination, Engine
from .errors import PolicyError
from .facts import BASE_FACTS, FactSet
from .reference import PARTIES, Artifact, Reference

__all__ = ["BASE_FACTS", "PARTIES", "Artifact", "Determination", "Engine", "FactSet", "PolicyError", "Reference"]
