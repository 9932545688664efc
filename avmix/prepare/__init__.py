"""Dataset preparation: what all recipes share, from annotations and media to manifests."""
