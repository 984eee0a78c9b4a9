"""Git in: a commit's files become checked documents. Git, YAML and the published schemas are known here only."""
