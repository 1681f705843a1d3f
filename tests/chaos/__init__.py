"""Real processes under load and under faults, in rounds. After each round the faults are healed and all is audited."""
