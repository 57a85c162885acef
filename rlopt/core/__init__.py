"""The one update, theta <- theta + alpha (M + lambda I)^-1 g. Knows nothing of environments, rollouts or configs."""
