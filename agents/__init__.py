"""Navigation agents: policies, learners, evaluation."""
