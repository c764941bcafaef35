"""Makes a fresh board one that edgectl uses: the agent, its user, units, rules and key, by SSH."""
