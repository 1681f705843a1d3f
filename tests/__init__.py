"""domain: decisions; contracts: the wire; infra: each part on real files and a real broker; saga: all services
together; audit: history against live answers; e2e: what a newcomer types."""
