"""Evaluation of a frozen policy: whole episodes, and videos."""
