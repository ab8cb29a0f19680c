"""Transfer: what a version names goes into its store."""
