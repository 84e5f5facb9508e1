"""Churn: how long peers stay and how long they are gone, drawn from one seed before the run begins."""

from scenarios.churn.distributions import Distribution, parse_distribution
from scenarios.churn.process import Spell, churn_spells

__all__ = ["Distribution", "Spell", "churn_spells", "parse_distribution"]
