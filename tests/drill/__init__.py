"""Each fault that docs/runbook.md lists, once, in a running shop: who is on call reads its cause at once."""
