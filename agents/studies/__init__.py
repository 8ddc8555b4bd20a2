"""Studies: training and evaluation of many agents, and their tables and figures."""
