"""What the web service does, one transaction a call: accounts, work, projects, webhooks. Knows
nothing of HTTP."""
