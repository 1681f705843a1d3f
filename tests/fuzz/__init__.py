"""Right inputs, damaged at random: whatever comes, a reader gives what it promises or one of its own errors."""
