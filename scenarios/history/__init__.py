"""The history of a run: one JSON object a line, written as things happen, read back by checks and reports."""

from scenarios.history.model import Fault, History, Mark, Op, PeerState
from scenarios.history.reader import load
from scenarios.history.writer import HistoryWriter

__all__ = ["Fault", "History", "HistoryWriter", "Mark", "Op", "PeerState", "load"]
