"""What every data set recipe shares: probing files, writing manifests."""
