"""Parts for Sidestep from another distribution: a method, a base, a policy, a learner, scenes and a benchmark."""
