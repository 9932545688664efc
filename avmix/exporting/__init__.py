"""avmix export and avmix push: trained networks for other programs and other people."""
