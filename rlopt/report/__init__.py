"""Many runs side by side: read, grouped, averaged over seeds with intervals, drawn. Needs the extra ``plot``."""
