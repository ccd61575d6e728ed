"""Parts of tools/campaign.py: each has `run(results, args)`."""
