"""Agents that learn to find their way: policies, learners, evaluation."""
