"""The files that devices download, kept by content. Blocking calls; no knowledge of packages or devices."""
