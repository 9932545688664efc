"""What every dataset recipe shares: probing files, writing manifests."""
