"""`avmix leaderboard`: protocols as data, runs of them, results that can be scored again."""
