"""Studies: many agents trained and judged one after another, and what they say together."""
