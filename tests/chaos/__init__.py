"""Real processes under load and under faults, in rounds; after each all is healed, quiet, and audited."""
